/** The kernel: its version, and limits that many pods run into. */
import type { Finding } from '../server/api.ts';
import { readText, reporter, type Check } from './machine.ts';

/** What Kubernetes asks for with cgroup v2. */
const FLOOR = { major: 5, minor: 8 };
const MIN_PIDS = 32_768;
const MIN_INOTIFY_INSTANCES = 128;

export const kernelCheck: Check = {
  name: 'kernel',
  run(machine) {
    const { ok, degraded } = reporter('kernel');
    const release = readText(machine, '/proc/sys/kernel/osrelease') ?? 'unknown';
    const [, major, minor] = /^(\d+)\.(\d+)/.exec(release) ?? [];
    const findings: Finding[] = [];
    const old =
      Number(major) < FLOOR.major || (Number(major) === FLOOR.major && Number(minor) < FLOOR.minor);
    if (old) {
      const message = `Linux ${release} is older than ${FLOOR.major}.${FLOOR.minor}`;
      findings.push(degraded(message, 'upgrade: cgroup v2 is not complete before'));
    }
    const number = (path: string): number => Number(readText(machine, path) ?? 'NaN');
    const pids = number('/proc/sys/kernel/pid_max');
    if (pids < MIN_PIDS) {
      const message = `only ${pids} processes can exist (kernel.pid_max)`;
      findings.push(degraded(message, `sudo sysctl -w kernel.pid_max=${MIN_PIDS}`));
    }
    const instances = number('/proc/sys/fs/inotify/max_user_instances');
    if (instances < MIN_INOTIFY_INSTANCES) {
      const message = `only ${instances} inotify instances a user (fs.inotify.max_user_instances)`;
      const remedy = `sudo sysctl -w fs.inotify.max_user_instances=${MIN_INOTIFY_INSTANCES}`;
      findings.push(degraded(message, remedy));
    }
    return findings.length > 0 ? findings : [ok(`Linux ${release}`)];
  },
};

export const forwardingCheck: Check = {
  name: 'ip-forward',
  run(machine) {
    const { ok, degraded } = reporter('ip-forward');
    const forwarding = readText(machine, '/proc/sys/net/ipv4/ip_forward');
    if (forwarding === '1') return [ok('on')];
    return [
      degraded(
        'net.ipv4.ip_forward is off: pods do not reach other machines',
        'the bridge plugin turns it on with its first pod; for good: ' +
          'echo net.ipv4.ip_forward=1 | sudo tee /etc/sysctl.d/90-limpet.conf',
      ),
    ];
  },
};
