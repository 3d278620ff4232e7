// A tiny initramfs: a static busybox, the few modules to reach the disk, an init of a few lines.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { execFileSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';

type Node = {
  readonly path: string;
  readonly mode: number;
  readonly body?: Uint8Array;
  readonly device?: readonly [number, number];
};

/**
 * Builds the initramfs from an extracted root.
 * `modules` are names without `.ko`; what they depend on comes along, and what is built in does not.
 */
export function initramfs(root: string, modules: readonly string[], init: string): Buffer {
  const tree = modulesOf(root);
  const order = inLoadOrder(tree, modules);
  const nodes: Node[] = [
    ...['bin', 'dev', 'modules'].map((path) => ({ path, mode: 0o040755 })),
    { path: 'dev/console', mode: 0o020600, device: [5, 1] },
    { path: 'bin/busybox', mode: 0o100755, body: readFileSync(join(root, 'usr/bin/busybox')) },
    { path: 'init', mode: 0o100755, body: readFileSync(init) },
    {
      path: 'modules/order',
      mode: 0o100644,
      body: Buffer.from(order.map((path) => `${plain(path)}\n`).join('')),
    },
    ...order.map((path) => ({
      path: `modules/${plain(path)}`,
      mode: 0o100644,
      body: unpacked(join(tree, path)),
    })),
  ];
  return gzipSync(cpio(nodes), { level: 6 });
}

/** Unpacks modules and what they depend on where they are; `depmod` must be run afterwards. */
export function unpackModules(root: string, modules: readonly string[]): void {
  const tree = modulesOf(root);
  for (const path of inLoadOrder(tree, modules)) {
    const to = join(tree, path.replace(/\.(xz|zst)$/, ''));
    if (to === join(tree, path)) continue;
    writeFileSync(to, unpacked(join(tree, path)));
    rmSync(join(tree, path));
  }
}

function modulesOf(root: string): string {
  const releases = readdirSync(join(root, 'usr/lib/modules'));
  const release = releases[0];
  if (release === undefined || releases.length > 1) {
    throw new Error(`want modules of one kernel in the root, found ${releases.length}`);
  }
  return join(root, 'usr/lib/modules', release);
}

function inLoadOrder(tree: string, modules: readonly string[]): string[] {
  const text = readFileSync(join(tree, 'modules.dep'), 'utf8');
  const needs = new Map<string, string[]>();
  const pathOf = new Map<string, string>();
  for (const line of text.split('\n').filter((each) => each.includes(':'))) {
    const [path = '', rest = ''] = line.split(':');
    needs.set(
      path,
      rest.split(' ').filter((each) => each !== ''),
    );
    pathOf.set(plain(path).replace(/\.ko$/, '').replaceAll('-', '_'), path);
  }
  const builtIn = readFileSync(join(tree, 'modules.builtin'), 'utf8').replaceAll('-', '_');
  const order: string[] = [];
  const visit = (path: string): void => {
    if (order.includes(path)) return;
    (needs.get(path) ?? []).forEach(visit);
    order.push(path);
  };
  for (const name of modules) {
    const path = pathOf.get(name);
    if (path !== undefined) visit(path);
    else if (!builtIn.includes(`/${name}.ko`)) {
      throw new Error(`the kernel has no module "${name}"`);
    }
  }
  return order;
}

function plain(path: string): string {
  return basename(path).replace(/\.(xz|zst|gz)$/, '');
}

function unpacked(path: string): Buffer {
  if (path.endsWith('.xz')) return execFileSync('xz', ['-dc', path], { maxBuffer: 1 << 28 });
  if (path.endsWith('.zst')) return execFileSync('zstd', ['-dc', path], { maxBuffer: 1 << 28 });
  return readFileSync(path);
}

/** The "newc" format, written here because a device node in it needs no rights this way. */
function cpio(nodes: readonly Node[]): Buffer {
  const parts: Uint8Array[] = [];
  const add = (node: Node, index: number): void => {
    const body = node.body ?? new Uint8Array();
    const [major, minor] = node.device ?? [0, 0];
    const name = Buffer.from(`${node.path}\0`);
    const fields = [index, node.mode, 0, 0, 1, 0, body.length, 0, 0, major, minor, name.length, 0];
    const hex = fields.map((value) => value.toString(16).padStart(8, '0')).join('');
    const head = Buffer.concat([Buffer.from(`070701${hex}`), name]);
    parts.push(head, fill(head.length), body, fill(body.length));
  };
  nodes.forEach(add);
  add({ path: 'TRAILER!!!', mode: 0 }, 0);
  return Buffer.concat(parts);
}

function fill(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}
