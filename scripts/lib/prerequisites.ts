// The Debian packages that the host needs: installed where we may, asked for in one line elsewhere.
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { run } from './process.ts';
import type { Arch } from './pause-program.ts';

const packageOf: Readonly<Record<string, string>> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  'qemu-system-aarch64': 'qemu-system-arm',
  'qemu-img': 'qemu-utils',
  mmdebstrap: 'mmdebstrap',
  'mkfs.ext4': 'e2fsprogs',
  xz: 'xz-utils',
  depmod: 'kmod',
  ssh: 'openssh-client',
  unshare: 'util-linux',
  ip: 'iproute2',
  go: 'golang-go',
  mosquitto: 'mosquitto',
  mosquitto_passwd: 'mosquitto',
  mosquitto_sub: 'mosquitto-clients',
  pip3: 'python3-pip',
};

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** What running a virtual node needs. */
export function programsToRun(arch: Arch): string[] {
  return [arch === 'amd64' ? 'qemu-system-x86_64' : 'qemu-system-aarch64', 'qemu-img', 'ssh'];
}

/** What an MQTT broker and a reader of its messages need. */
export const programsToRelay = ['mosquitto', 'mosquitto_passwd', 'mosquitto_sub'] as const;

/**
 * What the unit tests need: system calls are counted, the CRI's own descriptor is Go, and messages go
 * through a real broker to readers of their own, one of them in Python.
 */
export const programsToTest = [
  ...['strace', 'go', 'unshare', 'ip', 'pip3'],
  ...programsToRelay,
] as const;

/** What building an image needs besides. */
export const programsToBuild = ['mmdebstrap', 'mkfs.ext4', 'xz', 'depmod', 'unshare'] as const;

/**
 * Makes sure that programs are there, installing their Debian packages when this is root or sudo
 * asks for no password. Throws one line with the command to run when it may not.
 */
export async function require(
  programs: readonly string[],
  say: (line: string) => void,
): Promise<void> {
  const missing: string[] = [];
  for (const program of programs) {
    if ((await found(program)) === undefined) missing.push(packageOf[program] ?? program);
  }
  if (programs.includes('mmdebstrap') && !(await readable(keyring))) {
    missing.push('debian-archive-keyring');
  }
  if (missing.length > 0) await install([...new Set(missing)], say);
}

/** The path of a program, looked for also where only root's PATH leads. */
export async function found(program: string): Promise<string | undefined> {
  const path = (process.env['PATH'] ?? '').split(delimiter);
  for (const directory of [...path, '/usr/sbin', '/sbin']) {
    if (directory !== '' && (await readable(join(directory, program), constants.X_OK))) {
      return join(directory, program);
    }
  }
  return undefined;
}

async function readable(path: string, mode = constants.R_OK): Promise<boolean> {
  return await access(path, mode).then(
    () => true,
    () => false,
  );
}

async function install(packages: readonly string[], say: (line: string) => void): Promise<void> {
  const command = `apt-get install --yes --no-install-recommends ${packages.join(' ')}`;
  const needed = `needs packages that are not here; run: sudo ${command}`;
  if ((await found('apt-get')) === undefined) {
    throw new Error(`needs a Debian or Ubuntu host with: ${packages.join(' ')}`);
  }
  const root = process.getuid?.() === 0;
  if (!root) {
    const sudo = await run('sudo', ['-n', 'true'], { check: false }).catch(() => undefined);
    if (sudo?.code !== 0) throw new Error(needed);
  }
  const apt = async (args: readonly string[]): Promise<number> => {
    const line = ['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', ...args];
    const whole = root ? line : ['sudo', '-n', ...line];
    return (await run(whole[0] ?? 'env', whole.slice(1), { check: false })).code;
  };
  say(`installing ${packages.join(' ')}`);
  const args = ['install', '--yes', '--no-install-recommends', ...packages];
  if ((await apt(args)) === 0) return;
  // The package lists may be missing or old.
  await apt(['update']);
  if ((await apt(args)) !== 0) throw new Error(`could not install packages; run: sudo ${command}`);
}
