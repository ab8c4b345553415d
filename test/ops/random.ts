export { type Random, seeded } from "../../engine/host/selftest/random.ts";
