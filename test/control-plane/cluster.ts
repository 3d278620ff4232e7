/** A control plane and one virtual node that runs limpet, for the suites. */
import { readFile, writeFile } from 'node:fs/promises';
import { join as pathOf } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import {
  attach as attachPlane,
  list as listPlanes,
  up as upPlane,
  type ControlPlane,
} from '../../scripts/lib/control-plane.ts';
import { joinLimpet as join } from '../../scripts/lib/join-limpet.ts';
import { attach, list, up, type VirtualNode } from '../../scripts/lib/virtual-node.ts';

export const IMAGE = 'limpet.local/busybox:1';
/** The programs may have to be built. */
export const BUILD_TIMEOUT_MS = 3_600_000;
export const TIMEOUT_MS = 600_000;

const began = performance.now();

export function note(line: string): void {
  const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(6);
  process.stdout.write(`# control-plane ${seconds} s  ${line}\n`);
}

export type Cluster = {
  readonly plane: ControlPlane;
  readonly node: VirtualNode;
  kubectl(...args: readonly string[]): Promise<string>;
  /** Creates or changes what the objects say. */
  apply(...objects: readonly object[]): Promise<void>;
  /** Waits until `look` gives something else than undefined; says what it waited for if it never does. */
  until<T>(what: string, look: () => Promise<T | undefined>, timeoutMs?: number): Promise<T>;
};

/** Starts both; limpet is not installed yet. */
export async function bringUp(
  name: string,
  options: { readonly signingDuration?: string } = {},
): Promise<Cluster> {
  const plane = await upPlane(name, note, options);
  const node = await up({
    name,
    containerd: '2',
    forwards: [{ host: 0, guest: 10250 }],
    say: note,
  });
  const kubectl = async (...args: readonly string[]) =>
    (await plane.kubectl(args, { timeoutMs: TIMEOUT_MS })).stdout;
  return {
    plane,
    node,
    kubectl,
    apply: async (...items) => {
      const file = pathOf(plane.directory, 'apply.json');
      await writeFile(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
      await kubectl('apply', '-f', file);
    },
    until: async (what, look, timeoutMs = 120_000) => {
      const end = performance.now() + timeoutMs;
      for (;;) {
        const found = await look();
        if (found !== undefined) return found;
        if (performance.now() > end) throw new Error(`not within ${timeoutMs / 1000} s: ${what}`);
        await pause(500);
      }
    },
  };
}

/** Ends what `bringUp` has started, also when only a part of it was. */
export async function bringDown(name: string): Promise<void> {
  if ((await list()).includes(name)) await (await attach(name)).down();
  if ((await listPlanes()).includes(name)) await (await attachPlane(name)).down();
}

/** Installs limpet and lets it join with a bootstrap token, as one that was started by hand. */
export async function joinLimpet({ plane, node, kubectl }: Cluster, name: string): Promise<void> {
  await join(node, plane);
  await kubectl('wait', '--for=create', '--timeout=300s', `node/${name}`);
  await kubectl('wait', '--for=condition=Ready', '--timeout=300s', `node/${name}`);
  note('the node is Ready');
}

/** One line of the API server's audit log. */
export type AuditEvent = {
  readonly verb: string;
  readonly requestURI: string;
  readonly userAgent?: string;
  readonly responseStatus?: { readonly code?: number };
  readonly stageTimestamp: string;
};

/** What limpet has asked the API server for. */
export async function requestsOf({ plane }: Cluster): Promise<readonly AuditEvent[]> {
  const lines = (await readFile(plane.auditLog, 'utf8')).split('\n').filter(Boolean);
  return lines
    .map((line) => JSON.parse(line) as AuditEvent)
    .filter(({ userAgent }) => userAgent?.startsWith('limpet/'));
}

/**
 * What was denied for good. The authorizer hears of a new pod a moment later than its node does: what
 * that pod uses may be forbidden at first, and has to be answered when it is asked for again.
 */
export function deniedOf(requests: readonly AuditEvent[]): readonly AuditEvent[] {
  const codeOf = ({ responseStatus }: AuditEvent) => responseStatus?.code ?? 0;
  const isAnswered = (request: AuditEvent) => codeOf(request) >= 200 && codeOf(request) < 300;
  const isEarly = (request: AuditEvent, index: number) =>
    codeOf(request) === 403 &&
    /\/(secrets|configmaps|token)\b/.test(request.requestURI) &&
    requests
      .slice(index + 1)
      .some((later) => later.requestURI === request.requestURI && isAnswered(later));
  return requests.filter(
    (request, index) => [401, 403].includes(codeOf(request)) && !isEarly(request, index),
  );
}
