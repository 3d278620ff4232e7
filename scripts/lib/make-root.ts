// Makes the root file system of a firmware image: a program of its own, so that it can be run in a
// user namespace (`unshare --map-root-user`) where all files may seem to be root's.
//
// No program of the image runs here, so the image may be of another architecture. What the
// packages' scripts would have done is done by hand below, or on the first boot.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { initramfs, unpackModules } from './initramfs.ts';
import { busyboxImage, ociArchive, pauseImage } from './oci-archive.ts';
import type { Arch } from './pause-program.ts';

export type RootPlan = {
  readonly arch: Arch;
  readonly mirror: string;
  readonly proxy: string;
  readonly suite: string;
  readonly packages: readonly string[];
  /** Packages taken from a newer suite, and only those. */
  readonly newer?: { readonly suite: string; readonly pinned: readonly string[] };
  readonly remove: readonly string[];
  readonly networkPlugins: readonly string[];
  readonly links: Readonly<Record<string, string>>;
  readonly wanted: Readonly<Record<string, readonly string[]>>;
  readonly masked: readonly string[];
  readonly overlays: readonly string[];
  readonly containerdConfig: string;
  readonly authorizedKey: string;
  readonly init: string;
  readonly bootModules: readonly string[];
  readonly plainModules: readonly string[];
  readonly diskMiB: number;
  /** Takes `root/` while it is made, and then vmlinuz, initramfs, disk.raw, busybox, packages. */
  readonly directory: string;
};

if (import.meta.main) {
  const plan = JSON.parse(process.argv[2] ?? '') as RootPlan;
  const root = join(plan.directory, 'root');
  extract(plan, root);
  finish(plan, root);
  pack(plan, root);
  rmSync(root, { recursive: true });
}

function extract(plan: RootPlan, root: string): void {
  const { newer } = plan;
  const preferences = join(plan.directory, 'preferences');
  const pins = (newer?.pinned ?? []).map(
    (name) => `Package: ${name}\nPin: release n=${newer?.suite ?? ''}\nPin-Priority: 990\n`,
  );
  // All else of the newer suite is out of reach, even as a dependency.
  const others =
    newer === undefined ? [] : [`Package: *\nPin: release n=${newer.suite}\nPin-Priority: 1\n`];
  writeFileSync(preferences, [...pins, ...others].join('\n'));
  const suites = [plan.suite, ...(newer === undefined ? [] : [newer.suite])];
  const args = [
    '--mode=root',
    '--variant=extract',
    '--format=directory',
    '--skip=chroot/mount,check/qemu,cleanup/apt/cache',
    `--architectures=${plan.arch}`,
    `--include=${plan.packages.join(',')}`,
    // In a user namespace there is no other user to become.
    '--aptopt=APT::Sandbox::User "root"',
    // A wrong clock on the building machine must not stop it; signatures are checked all the same.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=Acquire::Check-Date "false"',
    `--aptopt=Dir::Etc::Preferences "${preferences}"`,
    ...(plan.proxy === '' ? [] : [`--aptopt=Acquire::http::Proxy "${plan.proxy}"`]),
    plan.suite,
    root,
    ...suites.map((suite) => `deb ${plan.mirror} ${suite} main`),
  ];
  // In a user namespace there is no other owner or group to give a file to, either.
  const env = { ...process.env, TAR_OPTIONS: '--no-same-owner' };
  execFileSync('mmdebstrap', args, { stdio: ['ignore', 'inherit', 'inherit'], env });
}

function finish(plan: RootPlan, root: string): void {
  const archives = join(root, 'var/cache/apt/archives');
  writeFileSync(join(plan.directory, 'packages'), versions(readdirSync(archives)));
  rmSync(archives, { recursive: true });
  for (const path of plan.remove) rmSync(join(root, path), { recursive: true, force: true });
  for (const plugin of readdirSync(join(root, 'usr/lib/cni'))) {
    if (!plan.networkPlugins.includes(plugin)) rmSync(join(root, 'usr/lib/cni', plugin));
  }
  accounts(root);
  certificates(root);
  for (const overlay of plan.overlays) cpSync(overlay, root, { recursive: true, force: true });
  mkdirSync(join(root, 'etc/containerd/certs.d'), { recursive: true });
  copyFileSync(plan.containerdConfig, join(root, 'etc/containerd/config.toml'));
  for (const [path, target] of Object.entries(plan.links)) link(root, path, target);
  for (const [target, units] of Object.entries(plan.wanted)) {
    for (const unit of units) {
      const own = existsSync(join(root, 'etc/systemd/system', unit));
      const from = own ? `/etc/systemd/system/${unit}` : `/usr/lib/systemd/system/${unit}`;
      link(root, `etc/systemd/system/${target}.wants/${unit}`, from);
    }
  }
  for (const unit of plan.masked) link(root, `etc/systemd/system/${unit}`, '/dev/null');
  // Empty, not missing: a missing one makes systemd take this for a first boot and ask questions.
  writeFileSync(join(root, 'etc/machine-id'), '');
  mkdirSync(join(root, 'root/.ssh'), { recursive: true, mode: 0o700 });
  chmodSync(join(root, 'root/.ssh'), 0o700);
  writeFileSync(join(root, 'root/.ssh/authorized_keys'), plan.authorizedKey, { mode: 0o600 });
  images(plan.arch, root);
}

function pack(plan: RootPlan, root: string): void {
  const kernel = readdirSync(join(root, 'boot')).find((name) => name.startsWith('vmlinuz-'));
  if (kernel === undefined) throw new Error('the root has no kernel in /boot');
  const packed = readFileSync(join(root, 'boot', kernel));
  writeFileSync(join(plan.directory, 'vmlinuz'), plan.arch === 'amd64' ? unpacked(packed) : packed);
  // The machine is given its kernel from outside. kubeadm wants to see how it was configured.
  for (const name of readdirSync(join(root, 'boot'))) {
    if (!name.startsWith('config-')) rmSync(join(root, 'boot', name), { recursive: true });
  }
  const depmod = ['-b', root, kernel.slice('vmlinuz-'.length)];
  execFileSync('depmod', depmod);
  unpackModules(root, [...plan.bootModules, ...plan.plainModules]);
  execFileSync('depmod', depmod);
  const early = initramfs(root, plan.bootModules, plan.init);
  writeFileSync(join(plan.directory, 'initramfs'), early);
  copyFileSync(join(root, 'usr/bin/busybox'), join(plan.directory, 'busybox'));
  const disk = join(plan.directory, 'disk.raw');
  const options = 'lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0';
  const format = ['-q', '-F', '-L', 'root', '-m', '1', '-N', '131072', '-E', options];
  execFileSync('mkfs.ext4', [...format, '-d', root, disk, `${plan.diskMiB}M`]);
}

/**
 * The kernel inside a bzImage, which QEMU starts directly: an emulated processor takes two seconds
 * to unpack it. What is packed in another way than Debian's is left as it is.
 */
function unpacked(image: Buffer): Buffer {
  const at = ((image[0x1f1] ?? 4) + 1) * 512 + image.readUInt32LE(0x248);
  // The last four bytes are the unpacked size.
  const payload = image.subarray(at, at + image.readUInt32LE(0x24c) - 4);
  return payload.readUInt32LE(0) === 0xfd2fb528 ? zstdDecompressSync(payload) : image;
}

/** Users and groups: Debian's fixed ones here, those of the packages by systemd-sysusers. */
function accounts(root: string): void {
  const master = (name: string): string[][] =>
    readFileSync(join(root, 'usr/share/base-passwd', `${name}.master`), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(':'));
  const users = master('passwd');
  const groups = master('group');
  const write = (path: string, lines: readonly string[], mode: number): void => {
    writeFileSync(join(root, path), lines.map((line) => `${line}\n`).join(''), { mode });
    chmodSync(join(root, path), mode);
  };
  write(
    'etc/passwd',
    users.map(([name, , ...rest]) => [name, 'x', ...rest].join(':')),
    0o644,
  );
  write(
    'etc/group',
    groups.map(([name, , ...rest]) => [name, 'x', ...rest].join(':')),
    0o644,
  );
  write(
    'etc/shadow',
    users.map(([name]) => `${name}:*:20000:0:99999:7:::`),
    0o640,
  );
  write(
    'etc/gshadow',
    groups.map(([name]) => `${name}:*::`),
    0o640,
  );
}

function certificates(root: string): void {
  const from = join(root, 'usr/share/ca-certificates/mozilla');
  const all = readdirSync(from)
    .filter((name) => name.endsWith('.crt'))
    .sort();
  mkdirSync(join(root, 'etc/ssl/certs'), { recursive: true });
  const bundle = all.map((name) => readFileSync(join(from, name), 'utf8')).join('');
  writeFileSync(join(root, 'etc/ssl/certs/ca-certificates.crt'), bundle);
}

/** The container images that a machine must have before it has ever seen a network. */
function images(arch: Arch, root: string): void {
  const program = readFileSync(join(root, 'usr/bin/busybox'));
  const names = ['docker.io/library/busybox:latest', 'limpet.local/busybox:1'];
  const archive = ociArchive([
    pauseImage(arch, ['limpet.local/pause:1']),
    busyboxImage({ arch, names, program, applets: appletsOf(program) }),
  ]);
  const directory = join(root, 'usr/lib/limpet-image/images');
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'base.tar'), archive);
  writeFileSync(join(directory, '..', 'pending'), '');
}

/** The applets a busybox has, read from its table of names, so that it need not run here. */
export function appletsOf(program: Buffer): string[] {
  const start = program.indexOf('[\0[[\0');
  const names = program.toString('latin1', start, start + 16384).split('\0');
  const applets = names.slice(
    0,
    names.findIndex((name) => !/^[a-z0-9_\[-]+$/.test(name)),
  );
  if (start < 0 || !applets.includes('sleep') || !applets.includes('sh')) {
    throw new Error('found no table of applets in busybox');
  }
  return applets;
}

/** Package names and versions, from the names of the archives they came in. */
function versions(archives: readonly string[]): string {
  return archives
    .filter((name) => name.endsWith('.deb'))
    .map((name) => decodeURIComponent(name).split('_'))
    .map(([name, version]) => `${name} ${version}\n`)
    .sort()
    .join('');
}

function link(root: string, path: string, target: string): void {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  rmSync(full, { recursive: true, force: true });
  symlinkSync(target, full);
}
