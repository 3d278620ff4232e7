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

export type AloneTimes = {
  /** Seconds that `ctr run` takes for the containers, one after the other, once the runtime is up. */
  readonly coldS: number;
  /** The same once more, when all that it needs has been used before. */
  readonly warmS: number;
};

/** Runs in the machine as the first thing after its runtime. */
const ALONE = `
read -r from _ < /proc/uptime
for round in cold warm; do
  for i in $(seq COUNT); do
    ctr -n alone run --rm limpet.local/busybox:1 $round$i true
  done
  read -r to _ < /proc/uptime
  echo $from $to
  from=$to
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
 * What the runtime alone takes for as many containers, each of which ends at once: in a boot of its
 * own without the agent, since what has just been booted is slower with all that it does first.
 */
export async function containersAlone(
  node: VirtualNode,
  count: number,
  options: BootOptions,
): Promise<AloneTimes> {
  const script = ALONE.replace('COUNT', `${count}`);
  await node.ssh('cat > /root/alone.sh', { input: script });
  await node.ssh('cat > /etc/systemd/system/alone.service', { input: ALONE_UNIT });
  await node.ssh(
    'ctr -n k8s.io images export /root/alone.tar limpet.local/busybox:1 && ' +
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
  const [coldS = NaN, warmS = NaN] = stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number))
    .map(([from = NaN, to = NaN]) => to - from);
  return { coldS, warmS };
}
