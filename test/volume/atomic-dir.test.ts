import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import fsPromises, { type FileHandle } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';

import { Failure } from '../../src/base/failure.ts';
import type { VolumeFile } from '../../src/pod/volume-files.ts';
import { writeAtomicDir } from '../../src/volume/atomic-dir.ts';
import { bindAt, scratch } from './scratch.ts';

const signal = AbortSignal.timeout(120_000);
const AT = Date.UTC(2026, 10, 22, 10, 15, 30, 7);

function filesOf(texts: Readonly<Record<string, string>>): ReadonlyMap<string, VolumeFile> {
  const entries = Object.entries(texts);
  return new Map(entries.map(([path, text]) => [path, { data: Buffer.from(text), mode: 0o644 }]));
}

function write(
  path: string,
  texts: Readonly<Record<string, string>> | ReadonlyMap<string, VolumeFile>,
  gid?: number,
): Promise<boolean> {
  const files = texts instanceof Map ? texts : filesOf(texts as Readonly<Record<string, string>>);
  const options = { wallMs: AT, ...(gid !== undefined && { gid }) };
  return writeAtomicDir(path, files as ReadonlyMap<string, VolumeFile>, options, signal);
}

/** What a container sees: every file below, links followed, names of ours left out. */
function seen(path: string): Record<string, string> {
  const found: Record<string, string> = {};
  const walk = (directory: string, prefix: string) => {
    for (const name of readdirSync(directory)) {
      if (name.startsWith('..')) continue;
      const at = join(directory, name);
      if (statSync(at).isDirectory()) walk(at, `${prefix}${name}/`);
      else found[prefix + name] = readFileSync(at, 'utf8');
    }
  };
  walk(path, '');
  return found;
}

const ours = (path: string) => readdirSync(path).filter((name) => name.startsWith('..'));
const modeOf = (path: string) => (statSync(path).mode & 0o7777).toString(8);

const OLD = { same: 'same', changed: 'old', gone: 'x', 'dir/kept': 'k', 'dir/gone': 'g' };
const NEW = { same: 'same', changed: 'new', 'dir/kept': 'k', 'more/deep/er': 'm' };

test('the layout is that of the kubelet, whatever the umask', async () => {
  using dir = scratch();
  const before = process.umask(0o077);
  try {
    assert.equal(await write(dir.path, { 'app.conf': 'a', 'd/e/f': 'b', 'd/g': 'c' }), true);
  } finally {
    process.umask(before);
  }
  const generation = readlinkSync(join(dir.path, '..data'));
  assert.equal(generation, '..2026_11_22_10_15_30.7');
  assert.deepEqual(readdirSync(dir.path).sort(), [generation, '..data', 'app.conf', 'd'].sort());
  assert.equal(readlinkSync(join(dir.path, 'app.conf')), '..data/app.conf');
  assert.equal(readlinkSync(join(dir.path, 'd')), '..data/d');
  assert.deepEqual(seen(dir.path), { 'app.conf': 'a', 'd/e/f': 'b', 'd/g': 'c' });
  for (const name of [generation, 'd', 'd/e']) assert.equal(modeOf(join(dir.path, name)), '755');
  assert.equal(modeOf(join(dir.path, 'app.conf')), '644');
});

test('what is the same is not written again', async () => {
  using dir = scratch();
  await write(dir.path, OLD);
  const generation = readlinkSync(join(dir.path, '..data'));
  const inode = lstatSync(join(dir.path, generation)).ino;
  const { mtimeMs, ctimeMs } = statSync(dir.path);
  assert.equal(await write(dir.path, OLD), false);
  assert.equal(readlinkSync(join(dir.path, '..data')), generation);
  assert.equal(lstatSync(join(dir.path, generation)).ino, inode);
  assert.deepEqual([statSync(dir.path).mtimeMs, statSync(dir.path).ctimeMs], [mtimeMs, ctimeMs]);
});

test('all files change at once, and what is gone is gone', async () => {
  using dir = scratch();
  await write(dir.path, OLD);
  const generation = readlinkSync(join(dir.path, '..data'));
  assert.equal(await write(dir.path, NEW), true);
  assert.deepEqual(seen(dir.path), NEW);
  const next = readlinkSync(join(dir.path, '..data'));
  assert.equal(next, '..2026_11_22_10_15_30.8', 'the same moment, another name');
  assert.deepEqual(ours(dir.path).sort(), [next, '..data'].sort(), `${generation} is there`);
  assert.deepEqual(
    readdirSync(dir.path).sort(),
    [next, '..data', 'changed', 'dir', 'more', 'same'].sort(),
  );
  await write(dir.path, {});
  assert.deepEqual(seen(dir.path), {});
  assert.equal(readdirSync(dir.path).length, 2);
});

test('who holds the data open sees one generation whole', async () => {
  using dir = scratch();
  await write(dir.path, { a: '0', b: '0' });
  const script =
    'const fs=require("fs");let n=0;const seen=new Set();process.on("SIGTERM",()=>{' +
    'console.log(n,seen.size);process.exit(0)});console.log("begun");(function look(){' +
    `try{process.chdir(${JSON.stringify(join(dir.path, '..data'))});` +
    'const a=fs.readFileSync("a","utf8"),b=fs.readFileSync("b","utf8");' +
    'if(a!==b||a===""){console.log("torn",a,b);process.exit(1)}n++;seen.add(a)}' +
    'catch(e){if(e.code!=="ENOENT"){console.log(e.code);process.exit(2)}}' +
    'setImmediate(look)})()';
  const reader = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  reader.stdout.setEncoding('utf8');
  const begun = new Promise<void>((resolve) => {
    reader.stdout.on('data', (text: string) => {
      output += text;
      if (output.includes('begun')) resolve();
    });
  });
  const ended = new Promise<number | null>((resolve) => reader.on('close', resolve));
  await begun;
  for (let round = 1; round <= 150; round += 1) {
    await write(dir.path, { a: String(round), b: String(round) });
  }
  reader.kill('SIGTERM');
  assert.equal(await ended, 0, output);
  const [looks = 0, generations = 0] = output.split('\n')[1]?.split(' ').map(Number) ?? [];
  assert.ok(looks > 10 && generations > 2, output);
});

test('modes and owners: of the file, and of the group of the pod', async () => {
  using dir = scratch();
  const files = new Map<string, VolumeFile>([
    ['d/plain', { data: Buffer.from('x'), mode: 0o644 }],
    ['strict', { data: Buffer.from('x'), mode: 0o400 }],
    ['token', { data: Buffer.from('x'), mode: 0o600, uid: 1001 }],
  ]);
  const facts = () =>
    ['.', '..data', 'd', 'd/plain', 'strict', 'token'].map((name) => {
      const { uid, gid } = statSync(join(dir.path, name));
      return `${name} ${modeOf(join(dir.path, name))} ${uid}:${gid}`;
    });
  chmodSync(dir.path, 0o1777);
  assert.equal(await write(dir.path, files), true);
  assert.deepEqual(facts(), [
    '. 1777 0:0',
    '..data 755 0:0',
    'd 755 0:0',
    'd/plain 644 0:0',
    'strict 400 0:0',
    'token 600 1001:0',
  ]);
  assert.equal(await write(dir.path, files, 777), true, 'another group is another content');
  const grouped = [
    '. 3777 0:777',
    '..data 2755 0:777',
    'd 2755 0:777',
    'd/plain 644 0:777',
    'strict 440 0:777',
    'token 640 1001:777',
  ];
  assert.deepEqual(facts(), grouped);
  assert.equal(await write(dir.path, files, 777), false);
  chmodSync(join(dir.path, '..data/strict'), 0o666);
  assert.equal(await write(dir.path, files, 777), true, 'a mode that somebody changed');
  assert.deepEqual(facts(), grouped);
});

for (const [what, damage] of [
  ['a file with other content', (at: string) => writeFileSync(join(at, '..data/same'), 'evil')],
  ['a file that is empty', (at: string) => writeFileSync(join(at, '..data/same'), '')],
  ['a file too many', (at: string) => writeFileSync(join(at, '..data/extra'), 'x')],
  ['a file that is gone', (at: string) => unlinkSync(join(at, '..data/dir/kept'))],
  [
    'a directory for a file',
    (at: string) => {
      unlinkSync(join(at, '..data/same'));
      mkdirSync(join(at, '..data/same'));
    },
  ],
  [
    'a fifo for a file',
    (at: string) => {
      unlinkSync(join(at, '..data/same'));
      execFileSync('mkfifo', [join(at, '..data/same')]);
    },
  ],
  [
    'a second name for a file',
    (at: string) => {
      execFileSync('ln', [join(at, '..data/same'), join(at, 'second')]);
    },
  ],
  ['no data link', (at: string) => unlinkSync(join(at, '..data'))],
  [
    'a data link to nothing',
    (at: string) => {
      unlinkSync(join(at, '..data'));
      symlinkSync('..2020_01_01_00_00_00.1', join(at, '..data'));
    },
  ],
  [
    'a data directory',
    (at: string) => {
      unlinkSync(join(at, '..data'));
      mkdirSync(join(at, '..data/x'), { recursive: true });
    },
  ],
  ['a file under a name of ours', (at: string) => writeFileSync(join(at, '..data_tmp'), 'x')],
  [
    'a half-made generation',
    (at: string) => {
      mkdirSync(join(at, '..2026_11_22_10_15_30.9'), { mode: 0o700 });
      writeFileSync(join(at, '..2026_11_22_10_15_30.9/same'), 'sa');
      symlinkSync('..2026_11_22_10_15_30.9', join(at, '..data_tmp'));
    },
  ],
  [
    'a visible link that leads elsewhere',
    (at: string) => {
      unlinkSync(join(at, 'same'));
      symlinkSync('..data/changed', join(at, 'same'));
    },
  ],
  [
    'a file for a visible link',
    (at: string) => {
      unlinkSync(join(at, 'same'));
      writeFileSync(join(at, 'same'), 'evil');
    },
  ],
  ['no visible link', (at: string) => unlinkSync(join(at, 'dir'))],
  [
    'the visible link of a file that is gone',
    (at: string) => {
      symlinkSync('..data/gone-long-ago', join(at, 'gone-long-ago'));
    },
  ],
] as const) {
  test(`put right: ${what}`, async () => {
    using dir = scratch();
    await write(dir.path, OLD);
    damage(dir.path);
    await write(dir.path, OLD);
    rmSync(join(dir.path, 'second'), { force: true });
    assert.deepEqual(seen(dir.path), OLD);
    assert.equal(ours(dir.path).length, 2);
    assert.equal(await write(dir.path, OLD), false);
  });
}

test('links that a container planted lead nowhere (CVE-2017-1002102)', async () => {
  using dir = scratch();
  const outside = join(dir.path, 'outside');
  mkdirSync(join(outside, 'etc'), { recursive: true });
  writeFileSync(join(outside, 'same'), 'precious');
  writeFileSync(join(outside, 'etc/passwd'), 'precious');
  const before = execFileSync('find', [outside, '-printf', '%p %i %m %U %s %C@\n'], {
    encoding: 'utf8',
  });
  const plant: readonly ((at: string) => void)[] = [
    (at) => {
      unlinkSync(join(at, '..data'));
      symlinkSync(outside, join(at, '..data'));
    },
    (at) => {
      const generation = readlinkSync(join(at, '..data'));
      renameSync(join(at, generation), join(at, 'moved'));
      symlinkSync(outside, join(at, generation));
    },
    (at) => {
      unlinkSync(join(at, '..data/same'));
      symlinkSync(join(outside, 'same'), join(at, '..data/same'));
    },
    (at) => {
      rmSync(join(at, '..data/dir'), { recursive: true });
      symlinkSync(join(outside, 'etc'), join(at, '..data/dir'));
    },
    (at) => {
      unlinkSync(join(at, 'same'));
      symlinkSync(join(outside, 'same'), join(at, 'same'));
    },
    (at) => symlinkSync(outside, join(at, '..data_tmp')),
    (at) => symlinkSync(outside, join(at, '..2026_11_22_10_15_30.8')),
    (at) => symlinkSync(outside, join(at, 'gone-long-ago')),
  ];
  for (const [index, damage] of plant.entries()) {
    for (const next of [OLD, NEW]) {
      const at = join(dir.path, `v${index}-${Object.keys(next).length}`);
      mkdirSync(at);
      await write(at, OLD);
      damage(at);
      await write(at, next);
      for (const name of ['moved', 'gone-long-ago']) {
        rmSync(join(at, name), { force: true, recursive: true });
      }
      assert.deepEqual(seen(at), next, String(damage));
      assert.equal(ours(at).length, 2);
    }
  }
  const after = execFileSync('find', [outside, '-printf', '%p %i %m %U %s %C@\n'], {
    encoding: 'utf8',
  });
  assert.equal(after, before, 'nothing outside has changed');
});

test('the directory itself may be no link', async () => {
  using dir = scratch();
  mkdirSync(join(dir.path, 'outside'));
  symlinkSync('outside', join(dir.path, 'v'));
  await assert.rejects(
    write(join(dir.path, 'v'), OLD),
    (error) => error instanceof Failure && error.message.includes(join(dir.path, 'v')),
  );
  assert.deepEqual(readdirSync(join(dir.path, 'outside')), []);
});

test('what is not ours stays: other files, and directories where others are mounted', async () => {
  using dir = scratch();
  const at = join(dir.path, 'v');
  mkdirSync(join(at, 'same'), { recursive: true });
  writeFileSync(join(at, 'own'), 'x');
  mkdirSync(join(dir.path, 'other'));
  writeFileSync(join(dir.path, 'other/precious'), 'x');
  bindAt(join(dir.path, 'other'), join(at, 'same'));
  await write(at, OLD);
  await write(at, NEW);
  assert.ok(existsSync(join(at, 'same/precious')));
  assert.ok(existsSync(join(at, 'own')));
  assert.equal(readFileSync(join(at, '..data/same'), 'utf8'), 'same');
});

test('paths that can not be files of a volume', async () => {
  using dir = scratch();
  const bad = ['', '.', './', '/a', '..', '../a', 'a/../b', 'a/..', '..a', './..a', 'a\0b'];
  const long = ['x'.repeat(256), 'ü'.repeat(128), 'a/'.repeat(2049) + 'b'];
  for (const path of [...bad, ...long]) {
    await assert.rejects(
      write(dir.path, { [path]: 'x' }),
      (error) => error instanceof Failure && /invalid path/.test(error.message),
      path,
    );
  }
  for (const both of [
    { a: 'x', 'a/b': 'x' },
    { 'a/b': 'x', a: 'x' },
  ]) {
    await assert.rejects(write(dir.path, both), /would be a file and a directory/);
  }
  assert.deepEqual(readdirSync(dir.path), [], 'nothing was begun');
  await write(dir.path, { 'a/..b': '1', './c//d/.': '2', ['x'.repeat(255)]: '3' });
  assert.equal(readFileSync(join(dir.path, 'c/d'), 'utf8'), '2');
  assert.equal(readFileSync(join(dir.path, 'a/..b'), 'utf8'), '1');
});

/** Calls of the file system that change something, or that something is decided by. */
const CALLS = [
  'lstat',
  'mkdir',
  'open',
  'opendir',
  'readdir',
  'readlink',
  'rename',
  'rmdir',
  'symlink',
  'unlink',
] as const;
const FILE_CALLS = ['chmod', 'chown', 'readFile', 'stat', 'writeFile'] as const;

/**
 * Runs `work` until its call number `last` of the file system, and there it stands still for ever,
 * as if the agent had been killed: nothing is cleaned up. False when it came to its end before.
 */
async function killedAt(last: number, work: () => Promise<unknown>): Promise<boolean> {
  let count = 0;
  let stop = () => {};
  const killed = new Promise<boolean>((resolve) => (stop = () => resolve(true)));
  const probe = await fsPromises.open('/dev/null');
  const prototype = Object.getPrototypeOf(probe) as Record<string, unknown>;
  await probe.close();
  const restore: (() => void)[] = [];
  const opened: FileHandle[] = [];
  const watch = (owner: Record<string, unknown>, name: string) => {
    const real = owner[name] as (...args: unknown[]) => Promise<FileHandle>;
    owner[name] = function (this: unknown, ...args: unknown[]) {
      if (count === last) {
        stop();
        return new Promise(() => {});
      }
      count += 1;
      const done = Reflect.apply(real, this, args);
      if (name.startsWith('open')) {
        done.then((handle) => opened.push(handle)).catch(() => undefined);
      }
      return done;
    };
    restore.push(() => (owner[name] = real));
  };
  for (const name of CALLS) watch(fsPromises, name);
  for (const name of FILE_CALLS) watch(prototype, name);
  syncBuiltinESMExports();
  try {
    return await Promise.race([killed, work().then(() => false)]);
  } finally {
    for (const undo of restore) undo();
    syncBuiltinESMExports();
    // As the kernel does for a process that is gone. Some were closed before.
    for (const handle of opened) await handle.close().catch(() => undefined);
  }
}

const generations = (at: string) => readdirSync(at).filter((name) => /^\.\.\d/.test(name)).length;

test('killed at any step, there is all of the old or all of the new, and the next one goes on', async () => {
  using dir = scratch();
  let steps = 0;
  const found = { old: 0, new: 0, neither: 0 };
  for (let step = 0; ; step += 1) {
    const at = join(dir.path, `v${step}`);
    mkdirSync(at);
    await write(at, OLD);
    const killed = await killedAt(step, () => write(at, NEW));
    if (!killed) {
      steps = step;
      break;
    }
    const data = seen(join(at, '..data'));
    const isOld = Object.keys(OLD).length === Object.keys(data).length;
    assert.deepEqual(data, isOld ? OLD : NEW, `step ${step}`);
    found[isOld ? 'old' : 'new'] += 1;
    // Half of the time the order was taken back meanwhile.
    const next = step % 2 === 0 ? NEW : OLD;
    await write(at, next);
    assert.deepEqual(seen(at), next, `step ${step}`);
    assert.equal(generations(at), 1, `step ${step}`);
    assert.equal(ours(at).length, 2, `step ${step}`);
  }
  assert.ok(steps > 60, `${steps} steps`);
  assert.ok(found.old > 20 && found.new > 10, JSON.stringify(found));
});

test('killed at any step of the first writing, the next one makes it whole', async () => {
  using dir = scratch();
  for (let step = 0; ; step += 1) {
    const at = join(dir.path, `v${step}`);
    mkdirSync(at);
    if (!(await killedAt(step, () => write(at, NEW, 50)))) break;
    await write(at, NEW, 50);
    assert.deepEqual(seen(at), NEW, `step ${step}`);
    assert.equal(ours(at).length, 2, `step ${step}`);
    assert.equal(await write(at, NEW, 50), false, `step ${step}`);
  }
});

test('cancelled, it leaves the old files', async () => {
  using dir = scratch();
  await write(dir.path, OLD);
  const aborted = AbortSignal.abort();
  await assert.rejects(
    writeAtomicDir(dir.path, filesOf(NEW), { wallMs: AT }, aborted),
    (error) => error instanceof Failure && error.code === 'Cancelled',
  );
  assert.deepEqual(seen(dir.path), OLD);
  await write(dir.path, NEW);
  assert.deepEqual(seen(dir.path), NEW);
});
