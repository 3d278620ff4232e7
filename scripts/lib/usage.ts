// What limpet tells of use, beside what the kernel and containerd tell; and what telling it costs.
import { setTimeout as sleep } from 'node:timers/promises';
import {
  withRates,
  type PodUsage,
  type Usage,
  type UsageDepth,
  type UsageReport,
} from '../../src/node/usage.ts';
import { askAgent } from './install-limpet.ts';
import type { VirtualNode } from './virtual-node.ts';

/** What limpet may be off by. */
const SHARE = 0.02;
/** Between the looks that rates are of. */
const WINDOW_MS = 10_000;

/** Pods that use something: processor, memory and a file, the network. Their names begin alike. */
export function usingPods(prefix: string): string {
  const image = 'limpet.local/busybox:1';
  const pod = (name: string, script: string, resources = {}) => ({
    ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name: `${prefix}-${name}` } },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [{ name: 'main', image, command: ['sh', '-c', script], resources }],
    },
  });
  const rest = 'trap "exit 0" TERM; sleep 1000000 & wait';
  const file = 'dd if=/dev/zero of=/tmp/file bs=1M count=24 conv=fsync';
  return [
    pod('busy', 'while :; do :; done', { limits: { cpu: '200m', memory: '32Mi' } }),
    pod('files', `${file}; ${rest}`, { limits: { memory: '128Mi' } }),
    pod('shared', `dd if=/dev/zero of=/dev/shm/file bs=1M count=12; ${rest}`),
    // Packets without an answer are traffic too.
    pod('network', `ping -c 30 -i 0.2 -s 1400 10.88.0.1; ${rest}`),
  ]
    .map((one) => `---\n${JSON.stringify(one)}\n`)
    .join('');
}

export async function usageNow(node: VirtualNode, depth: UsageDepth): Promise<UsageReport> {
  const report = await askAgent<UsageReport>(node, `/v1/usage?depth=${depth}&maxAgeMs=0`);
  if (report === undefined) throw new Error('the agent does not answer');
  return report;
}

/** One figure as limpet tells it, and what somebody else said before and after. */
export type Compared = {
  readonly of: string;
  readonly figure: string;
  readonly by: 'kernel' | 'ctr';
  readonly limpet: number;
  readonly between: readonly [number, number];
  readonly agrees: boolean;
};

/** Each line: an id, a figure, its value. */
const OTHERS = `
for d in $(find /sys/fs/cgroup/kubepods* -type d -name '*[0-9a-f]*' | grep -E 'pod|scope'); do
  cd $d 2>/dev/null || continue
  echo "$d kernel:cpu $(sed -n 's/^usage_usec //p' cpu.stat)000"
  echo "$d kernel:usage $(cat memory.current)"
  echo "$d kernel:inactive $(sed -n 's/^inactive_file //p' memory.stat)"
  echo "$d kernel:rss $(sed -n 's/^anon //p' memory.stat)"
  echo "$d kernel:faults $(sed -n 's/^pgfault //p' memory.stat)"
  echo "$d kernel:written $(sed -n 's/.*wbytes=\\([0-9]*\\).*/\\1/p' io.stat | head -1)"
  echo "$d kernel:processes $(cat pids.current)"
  p=$(head -1 cgroup.procs 2>/dev/null)
  [ -n "$p" ] && echo "$d kernel:rx $(nsenter -t $p -n cat /proc/net/dev | sed -n 's/ *eth0: *\\([0-9]*\\).*/\\1/p')"
done
for c in $(ctr -n k8s.io tasks ls -q); do
  ctr -n k8s.io tasks metrics $c | while read -r name value; do
    case $name in
      cpu.usage_usec) echo "$c ctr:cpu \${value}000";;
      memory.usage) echo "$c ctr:usage $value";;
      pids.current) echo "$c ctr:processes $value";;
    esac
  done
done
true`;

type Said = ReadonlyMap<string, number>;

async function others(node: VirtualNode): Promise<Said> {
  const { stdout: text } = await node.ssh(OTHERS, { timeoutMs: 300_000 });
  const said = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [who, what, value] = line.trim().split(' ');
    if (who === undefined || what === undefined || value === undefined) continue;
    said.set(`${who.split('/').at(-1)} ${what}`, Number(value));
  }
  return said;
}

/**
 * Compares the pods whose names begin with `prefix` and their containers with the kernel's files and
 * with `ctr tasks metrics`, both read before and after limpet; and rates with what counters of the
 * kernel have grown.
 */
export async function compareUsage(
  node: VirtualNode,
  prefix: string,
): Promise<readonly Compared[]> {
  const before = await others(node);
  const report = await usageNow(node, 'containers');
  const after = await others(node);
  const compared = (report.pods ?? []).flatMap((pod) => {
    const { name, uid } = pod.podRef;
    if (!name.startsWith(prefix)) return [];
    const slice = [...before.keys()].find((key) => key.includes(`pod${uid.replaceAll('-', '_')}`));
    const ofPod = compare(name, slice?.split(' ')[0] ?? uid, pod, before, after);
    const ofContainers = (pod.containers ?? []).flatMap((one) =>
      ['kernel', 'ctr'].flatMap((by) => {
        const key = by === 'kernel' ? `cri-containerd-${one.id}.scope` : one.id;
        return compare(`${name}/${one.name}`, key, one, before, after);
      }),
    );
    const scope = `cri-containerd-${pod.sandboxId}.scope kernel:rx`;
    const eth0 = pod.network?.interfaces.find((one) => one.name === 'eth0')?.rxBytes;
    const received = judge(name, 'rx', 'kernel', eth0, before.get(scope), after.get(scope));
    return [...ofPod, ...received, ...ofContainers];
  });
  return [...compared, ...(await compareRates(node, prefix))];
}

function compare(
  of: string,
  key: string,
  usage: Usage,
  before: Said,
  after: Said,
): readonly Compared[] {
  const figures: Readonly<Record<string, number | undefined>> = {
    cpu: usage.cpu?.usageCoreNanoSeconds,
    usage: usage.memory?.usageBytes,
    workingSet: usage.memory?.workingSetBytes,
    rss: usage.memory?.rssBytes,
    faults: usage.memory?.pageFaults,
    written: usage.io?.writeBytes,
    processes: usage.process_stats?.process_count,
  };
  return Object.entries(figures).flatMap(([figure, value]) =>
    (['kernel', 'ctr'] as const).flatMap((by) => {
      const at = (said: Said) =>
        figure === 'workingSet'
          ? difference(said.get(`${key} ${by}:usage`), said.get(`${key} ${by}:inactive`))
          : said.get(`${key} ${by}:${figure}`);
      return judge(of, figure, by, value, at(before), at(after));
    }),
  );
}

function difference(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a - b;
}

/** Nothing where the other does not tell of it. */
function judge(
  of: string,
  figure: string,
  by: 'kernel' | 'ctr',
  limpet: number | undefined,
  before: number | undefined,
  after: number | undefined,
): readonly Compared[] {
  if (before === undefined || after === undefined) return [];
  const [low, high] = [Math.min(before, after), Math.max(before, after)];
  const value = limpet ?? Number.NaN;
  const agrees = value >= low * (1 - SHARE) && value <= high * (1 + SHARE);
  return [{ of, figure, by, limpet: value, between: [low, high], agrees }];
}

/**
 * The processor's time a second of the busy pod, over ten seconds. A loop in the machine reads the
 * kernel's counter meanwhile, so that both are of the very same moments.
 */
async function compareRates(node: VirtualNode, prefix: string): Promise<readonly Compared[]> {
  const name = `${prefix}-busy`;
  const isBusy = (pod: PodUsage) => pod.podRef.name === name;
  const uid = (await usageNow(node, 'pods')).pods?.find(isBusy)?.podRef.uid.replaceAll('-', '_');
  const sampling = node.ssh(
    `cd $(find /sys/fs/cgroup/kubepods.slice -type d -name '*pod${uid}.slice') || exit 1
    read -r now _ < /proc/uptime; end=$((\${now%.*} + ${WINDOW_MS / 1000 + 6}))
    while read -r now _ < /proc/uptime; [ \${now%.*} -lt $end ]; do
      read -r _ usec < cpu.stat; echo $now $usec; sleep 0.1
    done`,
    { timeoutMs: 120_000 },
  );
  await sleep(2000);
  const first = await usageNow(node, 'pods');
  await sleep(WINDOW_MS);
  const second = await usageNow(node, 'pods');
  const samples = (await sampling).stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number) as [number, number]);
  const [from, to] = [first.pods?.find(isBusy), second.pods?.find(isBusy)];
  if (from === undefined || to === undefined) return [];
  const grown = counterAt(samples, to.monoMs / 1000) - counterAt(samples, from.monoMs / 1000);
  const nanoCores = Math.round((grown * 1e6) / (to.monoMs - from.monoMs));
  const limpet = withRates(first, second).pods?.find(isBusy)?.cpu?.usageNanoCores;
  return judge(name, 'nanoCores', 'kernel', limpet, nanoCores, nanoCores);
}

/** What a counter was at a moment between two samples of it. */
function counterAt(samples: readonly (readonly [number, number])[], seconds: number): number {
  const next = samples.findIndex(([at]) => at >= seconds);
  const [before, after] = [samples[next - 1], samples[next]];
  if (before === undefined || after === undefined) return Number.NaN;
  const share = (seconds - before[0]) / (after[0] - before[0]);
  return before[1] + share * (after[1] - before[1]);
}

/** What readings cost the agent, as the kernel counts it. */
export type UsageCost = {
  readonly pods: number;
  readonly depth: UsageDepth;
  readonly reads: number;
  readonly cpuMs: number;
  readonly answerBytes: number;
};

const READINGS = 40;
/** Further apart than readings that are shared. */
const APART_MS = 400;

export async function usageCost(node: VirtualNode, depth: UsageDepth): Promise<UsageCost> {
  const counted = async () => {
    const { stdout: text } = await node.ssh(
      'p=$(systemctl show limpet -P MainPID); sed -n "s/^syscr: //p" /proc/$p/io; cat /proc/$p/stat',
    );
    const [reads, stat = ''] = text.trim().split('\n');
    const ticks = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { reads: Number(reads), cpuMs: 10 * (Number(ticks[11]) + Number(ticks[12])) };
  };
  const pass = async (ask: boolean) => {
    const from = await counted();
    for (let left = READINGS; left > 0; left--) {
      if (ask) await usageNow(node, depth);
      await sleep(APART_MS);
    }
    const to = await counted();
    return { reads: to.reads - from.reads, cpuMs: to.cpuMs - from.cpuMs };
  };
  const report = await usageNow(node, depth);
  const rest = await pass(false);
  const busy = await pass(true);
  return {
    ...{ pods: report.pods?.length ?? 0, depth },
    reads: (busy.reads - rest.reads) / READINGS,
    cpuMs: Math.max(0, busy.cpuMs - rest.cpuMs) / READINGS,
    answerBytes: JSON.stringify(report).length,
  };
}

/** What the agent does while somebody looks, by its system calls. */
export type Steady = {
  readonly seconds: number;
  readonly looks: number;
  readonly forks: number;
  /** Writes to files, and whatever changes or syncs one, outside of memory. */
  readonly diskWrites: readonly string[];
  readonly kernelReads: number;
  readonly allReads: number;
  readonly opens: number;
};

const CALLS =
  'fork,vfork,clone,clone3,execve,openat,read,pread64,readv,write,pwrite64,writev,pwritev,' +
  'fsync,fdatasync,rename,renameat2,unlink,unlinkat,mkdir,mkdirat,ftruncate,fallocate';

export async function steadyUsage(
  node: VirtualNode,
  depth: UsageDepth,
  seconds: number,
): Promise<Steady> {
  const log = '/run/limpet-strace';
  const flag = depth === 'containers' ? '--containers' : '';
  const { stdout: text } = await node.ssh(
    `p=$(systemctl show limpet -P MainPID)
    limpet top --watch ${flag} --interval 2s > /run/limpet-top & top=$!
    sleep 8
    from=$(grep -c ^CPU: /run/limpet-top)
    timeout ${seconds} strace -f -y -qq -e trace=${CALLS} -o ${log} -p $p
    to=$(grep -c ^CPU: /run/limpet-top)
    kill $top
    echo looks $((to - from))
    echo forks $(grep -cE ' (fork|vfork|execve|clone3?)\\(' ${log} || true)
    echo reads $(grep -cE ' (read|pread64|readv)\\(' ${log} || true)
    echo kernel $(grep -cE ' (read|pread64)\\([0-9]+</(sys|proc)/' ${log} || true)
    echo opens $(grep -cE ' openat\\(' ${log} || true)
    grep -E ' (p?writev?|pwrite64|fsync|fdatasync|ftruncate|fallocate)\\([0-9]+</' ${log} |
      grep -vE '</(run|dev|proc|sys)/' | head -20 | sed 's/^/wrote /'
    grep -E ' (rename|renameat2|unlink|unlinkat|mkdir|mkdirat)\\(' ${log} |
      grep -vE '"/(run|dev|proc|sys)/' | head -20 | sed 's/^/wrote /'
    rm -f ${log} /run/limpet-top`,
    { timeoutMs: seconds * 1000 + 120_000 },
  );
  const of = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  return {
    ...{ seconds, looks: of('looks'), forks: of('forks') },
    ...{ kernelReads: of('kernel'), allReads: of('reads'), opens: of('opens') },
    diskWrites: [...text.matchAll(/^wrote (.*)$/gm)].map(([, line]) => line ?? ''),
  };
}
