// What containerd itself took for starts, read from its log.
import type { VirtualNode } from './virtual-node.ts';

export type Line = {
  readonly message: string;
  /** Since the machine's boot. */
  readonly monoMs: number;
};

/** A call from the line that begins it to the line that ends it. */
export type Call = {
  readonly name: 'RunPodSandbox' | 'CreateContainer' | 'StartContainer';
  readonly fromMs: number;
  readonly toMs: number;
};

/** What containerd logged in this boot, from `sinceMs` on. */
export async function runtimeLog(node: VirtualNode, sinceMs = 0): Promise<readonly Line[]> {
  const { stdout } = await node.ssh('journalctl -u containerd -b -o json --output-fields=MESSAGE', {
    timeoutMs: 120_000,
  });
  return linesOf(stdout).filter(({ monoMs }) => monoMs >= sinceMs);
}

type Entry = {
  readonly MESSAGE?: unknown;
  readonly __REALTIME_TIMESTAMP: string;
  readonly __MONOTONIC_TIMESTAMP: string;
};

/** The lines of `journalctl -o json`. */
export function linesOf(journal: string): readonly Line[] {
  return journal
    .split('\n')
    .filter(Boolean)
    .map((text) => {
      const entry = JSON.parse(text) as Entry;
      const message = String(entry.MESSAGE).replaceAll('\\"', '"');
      // The journal takes lines in bunches; when each was written it says itself.
      const wallMs = Date.parse(/^time="([^"]*)"/.exec(message)?.[1] ?? '');
      const [takenMs, monoMs] = [entry.__REALTIME_TIMESTAMP, entry.__MONOTONIC_TIMESTAMP].map(
        (us) => Number(us) / 1000,
      ) as [number, number];
      return { message, monoMs: Number.isNaN(wallMs) ? monoMs : monoMs + wallMs - takenMs };
    });
}

/** The calls of starts that have ended well. */
export function startCalls(lines: readonly Line[]): readonly Call[] {
  const began = new Map<string, number>();
  const calls: Call[] = [];
  for (const { message, monoMs } of lines) {
    const match = CALL.exec(message);
    if (match === null) continue;
    const [, name = '', rest = ''] = match;
    // What a call is for: the pod of a sandbox, the sandbox and name of a container, a container.
    const key = `${name} ${rest.replace(ENDING, '').replace('for container &', 'for &')}`;
    if (!ENDING.test(rest)) began.set(key, monoMs);
    const fromMs = began.get(key);
    if (fromMs === undefined || !ENDING.test(rest)) continue;
    began.delete(key);
    calls.push({ name: name as Call['name'], fromMs, toMs: monoMs });
  }
  return calls;
}

const CALL = /msg="(RunPodSandbox|CreateContainer|StartContainer) (.*)"$/;
const ENDING = / returns (sandbox id|container id|successfully).*$/;

/** For how long at least one of the calls was going on. */
export function busyMs(calls: readonly Call[]): number {
  let total = 0;
  let untilMs = -Infinity;
  for (const { fromMs, toMs } of [...calls].sort((a, b) => a.fromMs - b.fromMs)) {
    total += Math.max(0, toMs - Math.max(fromMs, untilMs));
    untilMs = Math.max(untilMs, toMs);
  }
  return total;
}
