// What a node agent costs while nothing happens: what the kernel counts of it, at two moments.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hostOfNodes } from './control-plane-config.ts';
import type { VirtualNode } from './virtual-node.ts';

/** The agent of a machine. */
export type Measured = {
  /** Of systemd. */
  readonly unit: string;
  readonly executable: string;
};

/** What the kernel counts of the agent, of containerd and of the disk, at one moment. */
export type Sample = {
  readonly uptimeS: number;
  readonly pid: number;
  readonly rssBytes: number;
  readonly pssBytes: number;
  readonly privateDirtyBytes: number;
  readonly hugeBytes: number;
  /** Resident pages of the executable's own file: shared with the page cache, clean. */
  readonly executableBytes: number;
  readonly cpuMs: number;
  readonly voluntarySwitches: number;
  readonly involuntarySwitches: number;
  readonly writtenBytes: number;
  readonly writeCalls: number;
  readonly descriptors: number;
  readonly threads: number;
  readonly runtimeCpuMs: number;
  readonly diskSectors: number;
  readonly diskFlushes: number;
  /** To and from the API server, with the headers of IP and TCP; 0 unless `countTraffic` was called. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly machineCpuMs: number;
};

/**
 * The processor time that the host has given to the machine: it tells of the work that was done there,
 * whatever else the host had to do meanwhile.
 */
export async function machineCpuMs(node: VirtualNode): Promise<number> {
  const pid = (await readFile(join(node.directory, 'pid'), 'utf8')).trim();
  const stat = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]!.split(' ');
  return 10 * (Number(stat[11]) + Number(stat[12]));
}

const script = ({ unit, executable }: Measured) => `
p=$(systemctl show ${unit} -P MainPID); echo "pid $p"
c=$(systemctl show containerd -P MainPID)
read -r up _ < /proc/uptime; echo "uptime $up"
cat /proc/$p/smaps_rollup | sed 's/^/rollup /'
read -r line < /proc/$p/stat; set -- \${line##*) }; echo "ticks $((\${12} + \${13}))"
read -r line < /proc/$c/stat; set -- \${line##*) }; echo "runtime $((\${12} + \${13}))"
grep -h ctxt_switches /proc/$p/task/*/status
sed 's/^/io /' /proc/$p/io
echo "fds $(ls /proc/$p/fd | wc -l)"
echo "threads $(ls /proc/$p/task | wc -l)"
read -r line < /sys/block/vda/stat; set -- $line; echo "sectors $7"; echo "flushes \${16}"
iptables -w -nvxL OUTPUT | sed -n 's/^ *[0-9]* *\\([0-9]*\\) .*dpt:.*/sent \\1/p'
iptables -w -nvxL INPUT | sed -n 's/^ *[0-9]* *\\([0-9]*\\) .*spt:.*/received \\1/p'
grep -A 4 ' ${executable}' /proc/$p/smaps | grep '^Rss' | sed 's/^/own /'`;

export async function sample(node: VirtualNode, of: Measured): Promise<Sample> {
  const { stdout } = await node.ssh(script(of), { timeoutMs: 60_000 });
  const sum = (pattern: RegExp): number =>
    [...stdout.matchAll(pattern)].reduce((total, match) => total + Number(match[1]), 0);
  return {
    uptimeS: sum(/^uptime (\S+)$/gm),
    pid: sum(/^pid (\d+)$/gm),
    rssBytes: 1024 * sum(/^rollup Rss:\s+(\d+) kB$/gm),
    pssBytes: 1024 * sum(/^rollup Pss:\s+(\d+) kB$/gm),
    privateDirtyBytes: 1024 * sum(/^rollup Private_Dirty:\s+(\d+) kB$/gm),
    hugeBytes: 1024 * sum(/^rollup AnonHugePages:\s+(\d+) kB$/gm),
    executableBytes: 1024 * sum(/^own Rss:\s+(\d+) kB$/gm),
    // A tick is 10 ms for all programs, whatever the kernel's own is.
    cpuMs: 10 * sum(/^ticks (\d+)$/gm),
    voluntarySwitches: sum(/^voluntary_ctxt_switches:\s+(\d+)$/gm),
    involuntarySwitches: sum(/^nonvoluntary_ctxt_switches:\s+(\d+)$/gm),
    writtenBytes: sum(/^io write_bytes: (\d+)$/gm),
    writeCalls: sum(/^io syscw: (\d+)$/gm),
    descriptors: sum(/^fds (\d+)$/gm),
    threads: sum(/^threads (\d+)$/gm),
    runtimeCpuMs: 10 * sum(/^runtime (\d+)$/gm),
    diskSectors: sum(/^sectors (\d+)$/gm),
    diskFlushes: sum(/^flushes (\d+)$/gm),
    sentBytes: sum(/^sent (\d+)$/gm),
    receivedBytes: sum(/^received (\d+)$/gm),
    machineCpuMs: await machineCpuMs(node),
  };
}

/** From now on the machine counts what it exchanges with the API server, until it is cut. */
export async function countTraffic(node: VirtualNode, port: number): Promise<void> {
  // Rules without a target: they count and change nothing. Pods go through another chain.
  await node.ssh(
    `iptables -w -I OUTPUT -p tcp -d ${hostOfNodes} --dport ${port} && ` +
      `iptables -w -I INPUT -p tcp -s ${hostOfNodes} --sport ${port}`,
    { timeoutMs: 60_000 },
  );
}

/** What a stretch of rest cost, by the minute. */
export type Rest = {
  readonly pods: number;
  readonly minutes: number;
  readonly rssBytes: number;
  readonly pssBytes: number;
  readonly privateDirtyBytes: number;
  readonly hugeBytes: number;
  readonly executableBytes: number;
  readonly cpuMsPerMinute: number;
  /** Of containerd, which is asked by the agent. */
  readonly runtimeCpuMsPerMinute: number;
  /** Of the whole machine, on the host. */
  readonly machineCpuMsPerMinute: number;
  readonly wakeUpsPerMinute: number;
  readonly preemptionsPerMinute: number;
  readonly writtenBytes: number;
  readonly writeCallsPerMinute: number;
  /** By all programs. */
  readonly diskWrittenBytes: number;
  readonly diskFlushes: number;
  readonly sentBytesPerMinute: number;
  readonly receivedBytesPerMinute: number;
  readonly descriptors: number;
  readonly threads: number;
};

/** @throws Error when the agent is not the same process any more */
export function restBetween(pods: number, from: Sample, to: Sample): Rest {
  if (from.pid !== to.pid) throw new Error('the agent was restarted during the measurement');
  const minutes = (to.uptimeS - from.uptimeS) / 60;
  const rate = (key: keyof Sample): number => Math.round((to[key] - from[key]) / minutes);
  const { rssBytes, pssBytes, privateDirtyBytes, hugeBytes, executableBytes } = to;
  return {
    pods,
    minutes: Math.round(minutes * 100) / 100,
    ...{ rssBytes, pssBytes, privateDirtyBytes, hugeBytes, executableBytes },
    cpuMsPerMinute: rate('cpuMs'),
    runtimeCpuMsPerMinute: rate('runtimeCpuMs'),
    machineCpuMsPerMinute: rate('machineCpuMs'),
    wakeUpsPerMinute: rate('voluntarySwitches'),
    preemptionsPerMinute: rate('involuntarySwitches'),
    writtenBytes: to.writtenBytes - from.writtenBytes,
    writeCallsPerMinute: rate('writeCalls'),
    diskWrittenBytes: 512 * (to.diskSectors - from.diskSectors),
    diskFlushes: to.diskFlushes - from.diskFlushes,
    sentBytesPerMinute: rate('sentBytes'),
    receivedBytesPerMinute: rate('receivedBytes'),
    descriptors: to.descriptors,
    threads: to.threads,
  };
}
