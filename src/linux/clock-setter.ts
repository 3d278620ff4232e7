/** Who sets the wall clock. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** What each program leaves behind: timesyncd when it has set the clock, others when they run. */
const SETTERS: readonly (readonly [name: string, path: string])[] = [
  ['systemd-timesyncd', '/run/systemd/timesync/synchronized'],
  ['chrony', '/run/chrony/chronyd.pid'],
  ['chrony', '/run/chronyd.pid'],
  ['ntpsec', '/run/ntpd.pid'],
];

/** @param root Before every path; empty on the real machine. */
export function clockSetter(root: string): string | undefined {
  return SETTERS.find(([, path]) => existsSync(join(root, path)))?.[0];
}
