/** cgroup v2 and the controllers that pods need. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readText, reporter, type Check, type Machine } from './machine.ts';

const { ok, degraded, failed } = reporter('cgroup');
const NEEDED = ['memory', 'cpu', 'pids'] as const;
const USEFUL = ['cpuset', 'io'] as const;
/** Raspberry Pi OS leaves the memory controller off to save some megabytes. */
const MEMORY_OPTIONS = ['cgroup_enable=memory', 'cgroup_memory=1'];
const UNIFIED_OPTION = 'systemd.unified_cgroup_hierarchy=1';
/** Where the kernel command line of a Raspberry Pi is kept: since Bookworm, and before. */
const CMDLINE_FILES = ['/boot/firmware/cmdline.txt', '/boot/cmdline.txt'];

export const cgroupCheck: Check = {
  name: 'cgroup',
  run(machine) {
    const controllers = readText(machine, '/sys/fs/cgroup/cgroup.controllers')?.split(/\s+/);
    if (controllers === undefined) {
      return [
        failed(
          'cgroup v2 is not mounted at /sys/fs/cgroup',
          addOptions(machine, [UNIFIED_OPTION, ...MEMORY_OPTIONS]),
        ),
      ];
    }
    const missing = NEEDED.filter((name) => !controllers.includes(name));
    if (missing.includes('memory')) return [memoryMissing(machine)];
    if (missing.length > 0) {
      return [
        failed(
          `the kernel offers no cgroup controller ${missing.join(', ')}`,
          'it was built or started without: look for cgroup_disable= in /proc/cmdline',
        ),
      ];
    }
    const absent = USEFUL.filter((name) => !controllers.includes(name));
    if (absent.length > 0) return [degraded(`the kernel offers no cgroup ${absent.join(', ')}`)];
    return [ok(`v2, with ${[...NEEDED, ...USEFUL].join(', ')}`)];
  },
};

function memoryMissing(machine: Machine) {
  const options = (readText(machine, '/proc/cmdline') ?? '').split(/\s+/);
  if (options.includes('cgroup_enable=memory')) {
    return failed(
      'the cgroup memory controller is off, although cgroup_enable=memory is on the command line',
      'some 6.12 kernels of Raspberry Pi OS took no notice of it: ' +
        'sudo apt full-upgrade && sudo reboot',
    );
  }
  return failed(
    'the cgroup memory controller is off: pods cannot have memory limits',
    addOptions(machine, MEMORY_OPTIONS),
  );
}

/** How to add options to the kernel's command line on this machine. */
function addOptions(machine: Machine, options: readonly string[]): string {
  const added = options.join(' ');
  const file = CMDLINE_FILES.find((path) => existsSync(join(machine.root, path)));
  if (file !== undefined) {
    // The firmware reads the first line only.
    return (
      `add "${added}" to the end of the one line of ${file}: ` +
      `sudo sed -i '1s/$/ ${added}/' ${file} && sudo reboot`
    );
  }
  if (existsSync(join(machine.root, '/etc/default/grub'))) {
    return (
      `add "${added}" to GRUB_CMDLINE_LINUX in /etc/default/grub, then ` +
      'sudo update-grub && sudo reboot'
    );
  }
  return `add "${added}" to the kernel command line and reboot`;
}
