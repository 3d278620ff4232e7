// Firmware images for virtual nodes: planned from firmware-images/, built once, kept in the cache.
import { mkdir, readdir, readFile, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { cached, cacheDirectory, exists, filesOf, keyOf, repository } from './cache.ts';
import type { RootPlan } from './make-root.ts';
import type { Arch } from './pause-program.ts';
import { programsToBuild, programsToRun, require } from './prerequisites.ts';
import { run } from './process.ts';
import { accelerator, settle } from './qemu.ts';

export type { Arch } from './pause-program.ts';
export type Containerd = '1.7' | '2';
export type Pages = '4k' | '16k';

export type ImageChoice = {
  readonly arch: Arch;
  readonly containerd: Containerd;
  readonly pages: Pages;
};

/** An image ready to boot; its files are never written to again. */
export type Image = ImageChoice & {
  readonly key: string;
  readonly disk: string;
  readonly kernel: string;
  readonly initramfs: string;
  /** A static busybox of the image's architecture, to make container images of. */
  readonly busybox: string;
  /** `name version` of each Debian package in the image. */
  readonly packages: string;
  /** The private ssh key that root of this image accepts. */
  readonly sshKey: string;
};

type Recipe = {
  readonly suite: string;
  readonly packages: readonly string[];
  readonly containerd: Readonly<
    Record<Containerd, { readonly suite?: string; readonly pinned?: readonly string[] }>
  >;
  readonly remove: readonly string[];
  readonly networkPlugins: readonly string[];
  readonly links: Readonly<Record<string, string>>;
  readonly wanted: Readonly<Record<string, readonly string[]>>;
  readonly masked: readonly string[];
};

type Board = {
  readonly kernels: Readonly<Record<Arch, Readonly<Partial<Record<Pages, string>>>>>;
  readonly packages: readonly string[];
  /** Loaded before the disk is there. */
  readonly bootModules: readonly string[];
  /** Kept unpacked: unpacking is slow on an emulated processor. */
  readonly plainModules: readonly string[];
  readonly diskMiB: number;
  readonly remove: readonly string[];
  readonly links: Readonly<Record<string, string>>;
  readonly masked: readonly string[];
};

const firmware = join(repository, 'firmware-images');
const board = join(firmware, 'boards', 'qemu');

/**
 * Returns the image, and has it built first when the cache has none of these inputs: about a
 * minute for the packages, and one boot to settle. `mirror` is a Debian mirror's address, for
 * hosts whose own package sources name none.
 */
export async function image(
  choice: ImageChoice,
  say: (line: string) => void,
  mirror?: string,
): Promise<Image> {
  const recipe = JSON.parse(await readFile(join(firmware, 'recipe.json'), 'utf8')) as Recipe;
  const machine = JSON.parse(await readFile(join(board, 'board.json'), 'utf8')) as Board;
  const kernel = machine.kernels[choice.arch][choice.pages];
  if (kernel === undefined) {
    throw new Error(`there is no kernel with ${choice.pages} pages for ${choice.arch}`);
  }
  const sshKey = await keyPair(say);
  const authorizedKey = await readFile(`${sshKey}.pub`, 'utf8');
  const makers = ['make-root', 'initramfs', 'oci-archive', 'pause-program', 'tar'];
  const code = makers.map((name) => join(repository, 'scripts', 'lib', `${name}.ts`));
  const inputs = await filesOf([
    join(firmware, 'recipe.json'),
    join(firmware, 'overlay'),
    join(firmware, 'containerd'),
    board,
    ...code,
  ]);
  const key = keyOf([choice, inputs, authorizedKey]);
  const kind = `${choice.arch}-${choice.pages}-containerd-${choice.containerd}`;
  const name = `${kind}-${key}`;
  const directory = await cached(
    'images',
    name,
    async (part) => {
      await require([...programsToBuild, ...programsToRun(choice.arch)], say);
      const plan = await planned(choice, recipe, machine, { kernel, authorizedKey, part, mirror });
      await build(plan, choice, say);
      await prune(kind);
    },
    say,
  );
  const now = new Date();
  await utimes(directory, now, now);
  return { ...choice, key, sshKey, ...filesIn(directory) };
}

/** Deletes earlier images of a kind, save those that a machine stands on or that were just used. */
async function prune(kind: string): Promise<void> {
  const nodes = join(cacheDirectory(), 'nodes');
  const states = await Promise.all(
    (await readdir(nodes).catch(() => [])).map(
      async (name) => await readFile(join(nodes, name, 'state.json'), 'utf8').catch(() => ''),
    ),
  );
  const images = join(cacheDirectory(), 'images');
  for (const name of await readdir(images)) {
    const path = join(images, name);
    const idleMs = Date.now() - (await stat(path)).mtimeMs;
    const used = idleMs < 3_600_000 || states.some((state) => state.includes(`${path}/`));
    if (name.startsWith(`${kind}-`) && !used) await rm(path, { recursive: true, force: true });
  }
}

function filesIn(directory: string): Omit<Image, keyof ImageChoice | 'key' | 'sshKey'> {
  return {
    disk: join(directory, 'disk.raw'),
    kernel: join(directory, 'vmlinuz'),
    initramfs: join(directory, 'initramfs'),
    busybox: join(directory, 'busybox'),
    packages: join(directory, 'packages'),
  };
}

async function planned(
  choice: ImageChoice,
  recipe: Recipe,
  machine: Board,
  rest: {
    readonly kernel: string;
    readonly authorizedKey: string;
    readonly part: string;
    readonly mirror: string | undefined;
  },
): Promise<RootPlan> {
  const { suite, pinned } = recipe.containerd[choice.containerd];
  return {
    arch: choice.arch,
    mirror: rest.mirror ?? (await debianMirror()),
    proxy: await aptSetting('Acquire::http::Proxy'),
    suite: recipe.suite,
    packages: [...recipe.packages, ...machine.packages, rest.kernel],
    ...(suite === undefined || pinned === undefined ? {} : { newer: { suite, pinned } }),
    remove: [...recipe.remove, ...machine.remove],
    networkPlugins: recipe.networkPlugins,
    links: { ...recipe.links, ...machine.links },
    wanted: recipe.wanted,
    masked: [...recipe.masked, ...machine.masked],
    overlays: [join(firmware, 'overlay'), join(board, 'overlay')],
    containerdConfig: join(firmware, 'containerd', `${choice.containerd}.toml`),
    authorizedKey: rest.authorizedKey,
    init: join(board, 'init'),
    bootModules: machine.bootModules,
    plainModules: machine.plainModules,
    diskMiB: machine.diskMiB,
    directory: rest.part,
  };
}

async function build(
  plan: RootPlan,
  choice: ImageChoice,
  say: (line: string) => void,
): Promise<void> {
  const { arch, pages, containerd } = choice;
  say(`building the image: ${arch}, ${pages} pages, containerd ${containerd}`);
  const script = join(repository, 'scripts', 'lib', 'make-root.ts');
  const line = [process.execPath, script, JSON.stringify(plan)];
  // Without root's rights a user namespace in which we seem to be root does as well.
  const whole = process.getuid?.() === 0 ? line : ['unshare', '--map-root-user', ...line];
  const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
  let step = '';
  const onLine = (text: string): void => {
    const found = /^I: (running apt-get update|downloading packages|extracting archives)/.exec(
      text,
    );
    if (found?.[1] !== undefined && found[1] !== step) say(`  ${(step = found[1])}`);
  };
  await run(whole[0] ?? '', whole.slice(1), { env: { PATH }, timeoutMs: 1_800_000, onLine });
  const part = filesIn(plan.directory);
  const accel = await accelerator(arch, part.kernel, part.initramfs, say);
  say(`  first boot, to settle (${accel})`);
  await settle({ ...choice, ...part, accel, log: join(plan.directory, 'settle.log') });
}

/** The key pair that all images of this cache accept. */
async function keyPair(say: (line: string) => void): Promise<string> {
  const key = join(cacheDirectory(), 'ssh', 'key');
  if (await exists(`${key}.pub`)) return key;
  await require(['ssh'], say);
  await mkdir(join(cacheDirectory(), 'ssh'), { recursive: true, mode: 0o700 });
  await rm(key, { force: true });
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'limpet', '-f', key]);
  return key;
}

/** The Debian mirror that the host's own package manager uses. */
async function debianMirror(): Promise<string> {
  const given = process.env['LIMPET_DEBIAN_MIRROR'];
  if (given !== undefined && given !== '') return given;
  const format = '$(ORIGIN)|$(LABEL)|$(CREATED_BY)|$(REPO_URI)';
  const listed = await run('apt-get', ['indextargets', '--format', format], { check: false });
  for (const line of listed.stdout.split('\n')) {
    const [origin, label, by, address] = line.split('|');
    if (origin === 'Debian' && label === 'Debian' && by === 'Packages' && address) return address;
  }
  throw new Error(
    'the host’s package sources name no Debian mirror (try apt-get update); ' +
      'name one with --mirror ADDRESS or LIMPET_DEBIAN_MIRROR',
  );
}

async function aptSetting(name: string): Promise<string> {
  const shown = await run('apt-config', ['shell', 'value', name], { check: false });
  return /^value='(.*)'$/m.exec(shown.stdout)?.[1] ?? '';
}
