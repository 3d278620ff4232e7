/** What the kernel does with memory: page size, huge pages, swap. */
import { pageBytesOf } from '../linux/proc.ts';
import { readBytes, readText, reporter, type Check } from './machine.ts';

const COMMON_PAGE_KIB = 4;

export const pagesCheck: Check = {
  name: 'memory-pages',
  run(machine) {
    const { ok, degraded } = reporter('memory-pages');
    const pageBytes = pageBytesOf(readBytes(machine, '/proc/self/auxv'));
    const pageKib = (pageBytes ?? COMMON_PAGE_KIB * 1024) / 1024;
    const enabled = readText(machine, '/sys/kernel/mm/transparent_hugepage/enabled') ?? '';
    const setting = /\[(\w+)\]/.exec(enabled)?.[1] ?? 'absent';
    const message = `pages of ${pageKib} KiB, transparent huge pages: ${setting}`;
    if (setting !== 'always' || pageKib <= COMMON_PAGE_KIB) return [ok(message)];
    // A huge page is as large as one page of page table entries can map.
    const hugeMib = (pageKib * pageKib) / 8;
    return [
      degraded(
        `${message}: a process can get ${hugeMib} MiB where it needs a few KiB`,
        'limpet refuses them for itself; for all pods: add transparent_hugepage=madvise to the ' +
          'kernel command line and reboot',
      ),
    ];
  },
};

export const swapCheck: Check = {
  name: 'swap',
  run(machine) {
    const { ok, degraded } = reporter('swap');
    const lines = (readText(machine, '/proc/swaps') ?? '').split('\n').slice(1);
    const devices = lines.map((line) => line.split(/\s+/)[0] ?? '').filter((name) => name !== '');
    const onDisk = devices.filter((name) => !name.startsWith('/dev/zram'));
    if (devices.length === 0) return [ok('none')];
    if (onDisk.length === 0) return [ok(`compressed memory only (${devices.join(', ')})`)];
    return [
      degraded(
        `swap on ${onDisk.join(', ')}: it wears out a card, and what pods keep secret lands there`,
        'sudo swapoff -a; and for good: sudo systemctl disable --now dphys-swapfile, or remove it ' +
          'from /etc/fstab',
      ),
    ];
  },
};
