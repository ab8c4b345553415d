import { Command } from "commander";
import { benchGpuCommand } from "./bench/gpu.ts";
import { benchOpCommand } from "./bench/op.ts";
import { benchProfileCommand } from "./bench/profile.ts";
import { benchStartCommand } from "./bench/start.ts";

export function benchCommand(): Command {
  const root = new Command("bench").description("measure what this machine reaches, beside what it could reach");
  for (const part of [benchOpCommand(), benchGpuCommand(), benchProfileCommand(), benchStartCommand()]) {
    root.addCommand(part);
  }
  return root;
}
