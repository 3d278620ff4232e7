/** The container runtime: there, new enough, and closed to everybody but root. */
import { lstatSync, statSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, faultOf } from '../base/failure.ts';
import type { RuntimeVersion } from '../kube/cri.ts';
import type { Finding } from '../server/api.ts';
import { networkRemedy } from './cni.ts';
import { reporter, type Check, type Machine } from './machine.ts';

const INSTALL = 'sudo apt install containerd && sudo systemctl enable --now containerd';
/** Below this, CRI calls that limpet needs are missing. */
const FLOOR = { major: 1, minor: 7 };
/** For each release line the first version without the holes that were known in 2026. */
const PATCHED: readonly (readonly [line: string, patch: number])[] = [
  ['1.7', 33],
  ['2.0', 10],
  ['2.1', 9],
  ['2.2', 5],
  ['2.3', 2],
];
/** CVE-2024-25621: others could read images and write to what containers share. */
const PRIVATE_DIRECTORIES = [
  '/var/lib/containerd',
  '/run/containerd/io.containerd.grpc.v1.cri',
  '/run/containerd/io.containerd.sandbox.controller.v1.shim',
];

export const socketCheck: Check = {
  name: 'runtime-socket',
  run(machine) {
    const { ok, degraded, failed } = reporter('runtime-socket');
    const path = machine.runtimeSocket;
    const found = look(machine, path);
    if (found === undefined) return [failed(`there is no ${path}`, INSTALL)];
    if (found === 'denied') return [degraded(`${path}: not allowed to look`, 'run it with sudo')];
    if (!found.isSocket()) return [failed(`${path} is not a socket`, INSTALL)];
    const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
    // Who may write to the socket is root, by way of a privileged container.
    if ((found.mode & 0o002) !== 0) {
      const remedy = `sudo chmod 0660 ${path}; and see uid, gid in /etc/containerd/config.toml`;
      return [failed(`${path} has mode ${mode}: every user can become root`, remedy)];
    }
    if (found.uid !== 0 && machine.root === '') {
      return [failed(`${path} belongs to user ${found.uid}, not to root`, `sudo chown 0 ${path}`)];
    }
    if ((found.mode & 0o020) !== 0 && found.gid !== 0 && machine.root === '') {
      const message = `group ${found.gid} may use ${path}: its members are as good as root`;
      return [
        degraded(message, `sudo chgrp 0 ${path}; and see gid in /etc/containerd/config.toml`),
      ];
    }
    return [ok(`${path}, mode ${mode}`)];
  },
};

export const directoriesCheck: Check = {
  name: 'runtime-files',
  run(machine) {
    const { ok, degraded } = reporter('runtime-files');
    const findings: Finding[] = [];
    for (const path of PRIVATE_DIRECTORIES) {
      const found = look(machine, path);
      if (found === undefined || found === 'denied' || (found.mode & 0o007) === 0) continue;
      const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
      const message = `${path} is open to every user (mode ${mode}, CVE-2024-25621)`;
      findings.push(degraded(message, `sudo chmod 0700 ${path}`));
    }
    return findings.length > 0 ? findings : [ok('closed to other users')];
  },
};

export const runtimeCheck: Check = {
  name: 'runtime',
  async run(machine) {
    const { ok, failed } = reporter('runtime');
    try {
      const { version, conditions } = await machine.askRuntime();
      const network = reporter('network');
      const findings = [judgeVersion(version)];
      for (const { type, status, message } of conditions) {
        if (type === 'RuntimeReady' && !status) {
          findings.push(
            failed(`the runtime is not ready: ${message ?? ''}`, 'journalctl -u containerd'),
          );
        }
        if (type !== 'NetworkReady') continue;
        const text = `the runtime says: ${message ?? 'not ready'}`;
        findings.push(status ? network.ok('ready') : network.failed(text, networkRemedy(machine)));
      }
      return findings.length > 0 ? findings : [ok('answers')];
    } catch (error) {
      const { message } = faultOf(error);
      return [failed(message, 'systemctl status containerd; journalctl -u containerd -n 50')];
    }
  },
};

/** Whether a runtime of this version can be used, and whether it is known to be vulnerable. */
export function judgeVersion({ runtimeName, runtimeVersion }: RuntimeVersion): Finding {
  const { ok, degraded, failed } = reporter('runtime');
  const shown = `${runtimeName} ${runtimeVersion}`;
  const parts = /^v?(\d+)\.(\d+)\.(\d+)/.exec(runtimeVersion);
  if (runtimeName !== 'containerd' || parts === null) return ok(shown);
  const [major, minor, patch] = [Number(parts[1]), Number(parts[2]), Number(parts[3])];
  if (major < FLOOR.major || (major === FLOOR.major && minor < FLOOR.minor)) {
    const message = `${shown} is too old: limpet needs ${FLOOR.major}.${FLOOR.minor} or newer`;
    return failed(message, 'upgrade containerd (Debian 13 has 1.7)');
  }
  const needed = PATCHED.find(([line]) => line === `${major}.${minor}`);
  if (needed !== undefined && patch < needed[1]) {
    return degraded(
      `${shown}: containerd itself fixed known security holes in ${needed[0]}.${needed[1]}`,
      'a distribution may have fixed them under the old number; keep it current: ' +
        'sudo apt update && sudo apt install --only-upgrade containerd runc',
    );
  }
  return ok(shown);
}

function look(machine: Machine, path: string): Stats | 'denied' | undefined {
  try {
    // A link in place of the socket (/var/run) is followed; what it points to is looked at.
    const full = join(machine.root, path);
    return lstatSync(full).isSymbolicLink() ? statSync(full) : lstatSync(full);
  } catch (error) {
    return errnoOf(error) === 'EACCES' || errnoOf(error) === 'EPERM' ? 'denied' : undefined;
  }
}
