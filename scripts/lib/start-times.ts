// How long a machine took to run its pods again after a power cut, and what its runtime alone takes.
import type { EventRecord } from '../../src/kube/event.ts';
import { askAgent } from './install-limpet.ts';
import type { BootOptions, VirtualNode } from './virtual-node.ts';

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

/** Seconds that `ctr run` takes for containers, one after the other. */
export type AloneTimes = {
  /** For those of the pods. */
  readonly containersS: number;
  /** For the pause containers of their sandboxes, which the runtime starts as well. */
  readonly pausesS: number;
};

/** Runs in the machine as the first thing after its runtime; all once more when that is warm. */
const ALONE = `
now() { read -r up _ < /proc/uptime; echo $up; }
for round in cold warm; do
  from=$(now)
  for i in $(seq CONTAINERS); do
    ctr -n alone run --rm limpet.local/busybox:1 $round$i true
  done
  between=$(now)
  for i in $(seq PAUSES); do
    ctr -n alone run --detach limpet.local/pause:1 pause$i
  done
  echo $from $between $(now)
  for i in $(seq PAUSES); do
    ctr -n alone task rm --force pause$i >&2
    ctr -n alone container rm pause$i
  done
done > /run/alone.part
mv /run/alone.part /run/alone
`;

const ALONE_UNIT = `
[Unit]
Requires=containerd.service
After=containerd.service
[Service]
Type=oneshot
ExecStart=/bin/bash /root/alone.sh
[Install]
WantedBy=multi-user.target
`;

/**
 * What the runtime alone takes for as many containers, each of which ends at once, and pauses: in a boot
 * of its own without the agent, since what has just been booted is slower with all that it does
 * first; and the second time in that boot.
 */
export async function containersAlone(
  node: VirtualNode,
  { containers, pauses }: { readonly containers: number; readonly pauses: number },
  options: BootOptions,
): Promise<readonly [cold: AloneTimes, warm: AloneTimes]> {
  const script = ALONE.replace('CONTAINERS', `${containers}`).replaceAll('PAUSES', `${pauses}`);
  await node.ssh('cat > /root/alone.sh', { input: script });
  await node.ssh('cat > /etc/systemd/system/alone.service', { input: ALONE_UNIT });
  await node.ssh(
    'ctr -n k8s.io images export /root/alone.tar limpet.local/busybox:1 limpet.local/pause:1 && ' +
      'ctr -n alone images import /root/alone.tar >/dev/null && rm /root/alone.tar && ' +
      'systemctl daemon-reload && systemctl disable limpet && systemctl enable alone && sync',
    { timeoutMs: 120_000 },
  );
  await node.cut();
  await node.boot(options);
  const { stdout } = await node.ssh(
    'until [ -e /run/alone ]; do sleep 1; done; cat /run/alone; ' +
      'systemctl disable alone; systemctl enable --now limpet',
    { timeoutMs: 600_000 },
  );
  const [cold, warm] = stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number))
    .map(([from = NaN, between = NaN, to = NaN]) => ({
      containersS: between - from,
      pausesS: to - between,
    }));
  if (cold === undefined || warm === undefined) throw new Error(`ctr run said: ${stdout}`);
  return [cold, warm];
}
