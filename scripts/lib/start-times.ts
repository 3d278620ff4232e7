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

/** Seconds that `ctr run` takes for as many containers, one after the other. */
export async function containersAlone(node: VirtualNode, count: number): Promise<number> {
  const { stdout } = await node.ssh(
    'ctr -n k8s.io images export /root/b.tar limpet.local/busybox:1 && ' +
      'ctr -n alone images import /root/b.tar >/dev/null && ' +
      `read -r a _ < /proc/uptime; for i in $(seq ${count}); do ` +
      'ctr -n alone run --rm limpet.local/busybox:1 alone$i true; done; ' +
      'read -r b _ < /proc/uptime; echo $a $b',
    { timeoutMs: 600_000 },
  );
  const [from = 0, to = 0] = stdout.trim().split('\n').at(-1)!.split(' ').map(Number);
  return to - from;
}
