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

/** Seconds that `ctr run` takes for the containers of the example pods, one after the other. */
export type AloneTimes = {
  /** Five containers with nothing of their pods: no network, no pause container. */
  readonly bareS: number;
  /** The same five, with a network for each of the two pods. */
  readonly networkedS: number;
  /** The pause containers of their sandboxes, which the runtime starts as well. */
  readonly pausesS: number;
};

export type ContainersAlone = {
  readonly cold: AloneTimes;
  /** The second time in the same boot. */
  readonly warm: AloneTimes;
  /**
   * Seconds from the kernel's start until the pause containers and the five with their network ran, by
   * `ctr run` alone: what the same start takes with no agent.
   */
  readonly fromKernelS: number;
};

/**
 * Runs in the machine as the first thing after its runtime, and in it first what limpet has to start
 * as well; all once more when that is warm. The init containers end at once; what stays running is
 * detached, and has its pod's network as `--cni` gives it (by the same configuration; only the port's
 * mapping is not in it).
 */
const ALONE = `
set -e
now() { read -r up _ < /proc/uptime; echo $up; }
ends() { ctr -n alone run --rm limpet.local/busybox:1 $1 true; }
stays() { ctr -n alone run --detach "$@"; }
away() {
  ctr -n alone task rm --force $1 >&2
  ctr -n alone container rm $1
}
networked() {
  ends page
  stays --cni limpet.local/busybox:1 httpd httpd -f -p 80
  ends prepare
  stays limpet.local/busybox:1 follow tail -F /log
  stays --cni limpet.local/busybox:1 worker sleep 3600
}
bare() {
  for i in 1 2 3 4 5; do ends bare$i; done
}
pauses() {
  for i in 1 2; do stays limpet.local/pause:1 pause$i; done
}
mkdir -p /opt/cni
[ -e /opt/cni/bin ] || ln -s /usr/lib/cni /opt/cni/bin
for round in cold warm; do
  for what in pauses networked bare; do
    from=$(now)
    $what
    echo $round $what $from $(now)
  done
  for id in httpd follow worker pause1 pause2; do away $id; done
  grep -l '^alone-' /var/lib/cni/networks/limpet/* | xargs rm -f
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
 * What the runtime alone takes for the containers of the example pods: in a boot of its own without
 * the agent, since what has just been booted is slower with all that it does first; and the second
 * time in that boot.
 */
export async function containersAlone(
  node: VirtualNode,
  options: BootOptions,
): Promise<ContainersAlone> {
  await node.ssh('cat > /root/alone.sh', { input: ALONE });
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
    'until [ -e /run/alone ] || systemctl --quiet is-failed alone; do sleep 1; done; ' +
      'cat /run/alone || journalctl -b -u alone --no-pager; ' +
      'systemctl disable alone; systemctl enable --now limpet',
    { timeoutMs: 600_000 },
  );
  const spans = new Map<string, readonly [from: number, to: number]>(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' '))
      .map(([round, what, from, to]) => [`${round} ${what}`, [Number(from), Number(to)]]),
  );
  const took = (key: string): number => {
    const [from = NaN, to = NaN] = spans.get(key) ?? [];
    if (!(to > from)) throw new Error(`ctr run said: ${stdout}`);
    return to - from;
  };
  const times = (round: string): AloneTimes => ({
    bareS: took(`${round} bare`),
    networkedS: took(`${round} networked`),
    pausesS: took(`${round} pauses`),
  });
  const fromKernelS = spans.get('cold networked')?.[1] ?? NaN;
  return { cold: times('cold'), warm: times('warm'), fromKernelS };
}
