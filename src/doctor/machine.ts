/** The machine as the checks see it: files below a root, which a test can make. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { RuntimeCondition, RuntimeVersion } from '../kube/cri.ts';
import type { Finding, Health } from '../server/api.ts';

export type Machine = {
  /** Before every path; empty on the real machine. */
  readonly root: string;
  /** Where limpet keeps its state. */
  readonly rootDirectory: string;
  readonly manifestDirectory: string;
  readonly kubeconfig: string;
  /** Nobody has said that there is one. */
  readonly kubeconfigIsDefault: boolean;
  /** Path of the runtime's socket. */
  readonly runtimeSocket: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** No clock that is right shows less, in milliseconds since 1970. */
  readonly earliestWallMs: number;
  /** Asks the runtime who it is and how it is; fails with a Failure. */
  askRuntime(): Promise<RuntimeAnswer>;
};

export type RuntimeAnswer = {
  readonly version: RuntimeVersion;
  readonly conditions: readonly RuntimeCondition[];
};

/** One check: it looks at one thing and says what is right or wrong with it. Never throws. */
export type Check = {
  readonly name: string;
  run(machine: Machine): Promise<readonly Finding[]> | readonly Finding[];
};

/** Findings of one check, each with the check's name. */
export function reporter(check: string) {
  const finding =
    (health: Health) =>
    (message: string, remedy?: string): Finding => ({
      check,
      health,
      message,
      ...(remedy === undefined ? {} : { remedy }),
    });
  return { ok: finding('ok'), degraded: finding('degraded'), failed: finding('failed') };
}

/** The text of a file of the machine, without its last newline; undefined when it can't be read. */
export function readText(machine: Machine, path: string): string | undefined {
  return readBytes(machine, path)?.toString('utf8').trimEnd();
}

/** The bytes of a file of the machine; undefined when it can't be read. */
export function readBytes(machine: Machine, path: string): Buffer | undefined {
  try {
    return readFileSync(join(machine.root, path));
  } catch {
    return undefined;
  }
}
