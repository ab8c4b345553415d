import type { Model } from "@kernlock/engine/model";
import { checkModel, type Lock } from "@kernlock/loader";
import { bytesText, type Output } from "./output.ts";

/** Where the lock pins a model, only that model is used; its weights are hashed through the descriptors that serve them. */
export function checkPinned(lock: Lock, model: Model, output: Output): void {
  if (lock.model === undefined) return;
  checkModel(lock.model, model.folder, model.files, (done, total) =>
    output.progress(`model ${bytesText(done)} of ${bytesText(total)} checked`),
  );
}
