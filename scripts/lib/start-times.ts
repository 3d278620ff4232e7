// How long a machine took to run its pods again after a power cut, and what its runtime alone takes.
import type { EventRecord } from '../../src/kube/event.ts';
import { askAgent } from './install-limpet.ts';
import type { VirtualNode } from './virtual-node.ts';

export type StartTimes = {
  /** Seconds from the kernel's start to the agent's. */
  readonly agentS: number;
  /** Seconds from the kernel's start to that of the last container. */
  readonly allS: number;
};

/** When, in this boot, the agent started and when it had started the last container. */
export async function startTimes(node: VirtualNode): Promise<StartTimes> {
  const { stdout } = await node.ssh(
    'read -r up _ < /proc/uptime; echo "$(date +%s.%N) $up"; ' +
      'systemctl show limpet -P ExecMainStartTimestampMonotonic',
  );
  const [wall = 0, up = 0, agentUs = 0] = stdout.trim().split(/\s+/).map(Number);
  const events = await askAgent<{ readonly items: readonly EventRecord[] }>(node, '/v1/events');
  const startedMs = (events?.items ?? [])
    .filter(({ reason }) => reason === 'Started')
    .map(({ lastWallMs }) => lastWallMs);
  return { agentS: agentUs / 1e6, allS: Math.max(...startedMs) / 1000 - (wall - up) };
}

export type AloneTimes = {
  /** Seconds that `ctr run` takes for as many containers as the pods have, one after the other. */
  readonly containersS: number;
  /** Seconds that it takes for the pause containers of the pods as well. */
  readonly pausesS: number;
};

/** What the runtime alone takes for as many containers, each of which ends at once, and pauses. */
export async function containersAlone(
  node: VirtualNode,
  containers: number,
  pauses: number,
): Promise<AloneTimes> {
  const { stdout } = await node.ssh(
    'ctr -n k8s.io images export /root/b.tar limpet.local/busybox:1 limpet.local/pause:1 && ' +
      'ctr -n alone images import /root/b.tar >/dev/null && sync && ' +
      `read -r a _ < /proc/uptime; for i in $(seq ${containers}); do ` +
      'ctr -n alone run --rm limpet.local/busybox:1 alone$i true; done; ' +
      `read -r b _ < /proc/uptime; for i in $(seq ${pauses}); do ` +
      'ctr -n alone run --detach limpet.local/pause:1 pause$i; done; ' +
      `read -r c _ < /proc/uptime; for i in $(seq ${pauses}); do ` +
      'ctr -n alone task rm --force pause$i; ctr -n alone container rm pause$i; done >/dev/null; ' +
      'echo $a $b $c',
    { timeoutMs: 600_000 },
  );
  const [from = 0, between = 0, to = 0] = stdout.trim().split('\n').at(-1)!.split(' ').map(Number);
  return { containersS: between - from, pausesS: to - between };
}
