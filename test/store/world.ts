/** What the tests of the store share: a clock to be turned by hand, pods, ledgers, a directory. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock, Now } from '../../src/base/clock.ts';
import { createLog, type Log } from '../../src/base/log.ts';
import type { NewEvent } from '../../src/kube/event.ts';
import type { Pod } from '../../src/kube/pod.ts';
import type { Deletion, Ledger } from '../../src/pod/model.ts';
import { openStore, type StoreOptions } from '../../src/store/open.ts';
import type { Store } from '../../src/store/store.ts';

export type HandClock = Clock & {
  advance(ms: number): void;
  setWall(wallMs: number): void;
  readonly timers: number;
};

/** Time stands still until `advance`, which runs what becomes due. */
export function handClock(wallMs = 1_800_000_000_000): HandClock {
  let now: Now = { monoMs: 1000, wallMs, boot: 'boot-1' };
  const due = new Set<{ readonly atMs: number; readonly run: () => void }>();
  const at = (atMs: number, run: () => void) => {
    const timer = { atMs, run };
    due.add(timer);
    return { cancel: () => void due.delete(timer) };
  };
  return {
    now: () => now,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason as Error);
        const stop = () => {
          timer.cancel();
          reject(signal.reason as Error);
        };
        const timer = at(now.monoMs + ms, () => {
          signal.removeEventListener('abort', stop);
          resolve();
        });
        signal.addEventListener('abort', stop, { once: true });
      }),
    at,
    soon: (run) => queueMicrotask(run),
    advance: (ms) => {
      const end = now.monoMs + ms;
      for (;;) {
        const next = [...due].filter(({ atMs }) => atMs <= end).sort((a, b) => a.atMs - b.atMs)[0];
        const step = Math.max(0, (next?.atMs ?? end) - now.monoMs);
        now = { ...now, monoMs: now.monoMs + step, wallMs: now.wallMs + step };
        if (next === undefined) return;
        due.delete(next);
        next.run();
      }
    },
    setWall: (value) => {
      now = { ...now, wallMs: value };
    },
    get timers() {
      return due.size;
    },
  };
}

/** Until something waits for the clock, or `work` has ended without. */
export async function untilWaiting(clock: HandClock, work: Promise<unknown>): Promise<void> {
  let hasEnded = false;
  const end = () => void (hasEnded = true);
  void work.then(end, end);
  while (clock.timers === 0 && !hasEnded) await new Promise((resolve) => setTimeout(resolve, 2));
}

export function captureLog(): { readonly log: Log; readonly lines: string[] } {
  const lines: string[] = [];
  return { log: createLog('debug', (line) => lines.push(line)), lines };
}

export type Place = { readonly directory: string; readonly podsDirectory: string };

/**
 * A directory that goes when `t` ends: in memory, where syncing costs nothing, or on the disk where
 * that is what is measured.
 */
export function place(
  t: { after(end: () => void): void },
  on: 'memory' | 'disk' = 'memory',
): Place {
  const parent = on === 'memory' && existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  const root = mkdtempSync(join(parent, 'limpet-store-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  return { directory: join(root, 'store'), podsDirectory: join(root, 'pods') };
}

export function open(where: Place, options: Partial<StoreOptions> = {}): Store {
  const { podsDirectory } = where;
  return openStore(where.directory, {
    ...{ clock: handClock(), log: captureLog().log, podsDirectory },
    ...options,
  });
}

export function pod(name: string, uid = `uid-${name}`): Pod {
  return {
    metadata: { name, namespace: 'default', uid },
    spec: {
      containers: [
        {
          name: 'main',
          image: 'example.org/web:1',
          imagePullPolicy: 'IfNotPresent',
          command: ['/bin/web', '--text', 'grüße'],
          env: [{ name: 'GREETING', value: `hello ${name}` }],
          ports: [{ containerPort: 80, protocol: 'TCP' }],
          resources: { requests: { cpu: '10m' }, limits: { memory: '16Mi' } },
          volumeMounts: [],
          terminationMessagePath: '/dev/termination-log',
          terminationMessagePolicy: 'File',
          securityContext: {},
          stdin: false,
          stdinOnce: false,
          tty: false,
        },
      ],
      initContainers: [],
      volumes: [],
      restartPolicy: 'Always',
      terminationGracePeriodSeconds: 30,
      dnsPolicy: 'ClusterFirst',
      hostNetwork: false,
      hostPID: false,
      hostIPC: false,
      shareProcessNamespace: false,
      hostAliases: [],
      securityContext: {},
    },
  };
}

export function ledger(attempt: number): Ledger {
  const at = { monoMs: 5, wallMs: 1_800_000_000_000, boot: 'boot-1' };
  return {
    started: at,
    admitted: true,
    sandboxAttempt: 0,
    containers: { main: { attempt, sandboxAttempt: 0, intent: { attempt, epoch: 'e', at } } },
  };
}

export function deletion(graceSeconds = 30): Deletion {
  return { graceSeconds, at: { monoMs: 7, wallMs: 1_800_000_000_007, boot: 'boot-1' } };
}

export function event(reason: string, uid = 'uid-web', message = 'it happened'): NewEvent {
  return {
    type: 'Normal',
    reason,
    message,
    object: { kind: 'Pod', namespace: 'default', name: uid.replace('uid-', ''), uid },
  };
}

export function names(store: Store): readonly string[] {
  return store.pods().map((stored) => stored.pod.metadata.name);
}
