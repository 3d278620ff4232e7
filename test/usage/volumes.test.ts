/** The volumes of a pod, with real files and a real tmpfs. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { mountTmpfs, unmount } from '../../src/linux/mount.ts';
import { volumeUsage } from '../../src/usage/volumes.ts';

const MIB = 1024 * 1024;

function volumesOf(t: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'limpet-volumes-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'volumes/kubernetes.io~empty-dir'), { recursive: true });
  return join(root, 'volumes');
}

test('files are counted as du does, inside the volume alone', async (t) => {
  const volumes = volumesOf(t);
  const data = join(volumes, 'kubernetes.io~empty-dir/data');
  mkdirSync(join(data, 'deep/deeper'), { recursive: true });
  writeFileSync(join(data, 'deep/deeper/file'), Buffer.alloc(3 * MIB, 1));
  linkSync(join(data, 'deep/deeper/file'), join(data, 'the same'));
  symlinkSync('/usr', join(data, 'elsewhere'));
  symlinkSync('/usr', join(volumes, 'kubernetes.io~empty-dir/a link'));
  writeFileSync(join(volumes, 'kubernetes.io~empty-dir/a file'), 'no volume');
  const [{ name, usedBytes, inodesUsed, ...rest }, ...more] = (await volumeUsage(volumes)) as [
    Awaited<ReturnType<typeof volumeUsage>>[0],
  ];
  assert.deepEqual([name, inodesUsed, rest, more], ['data', 5, {}, []]);
  const du = execFileSync('du', ['-s', '--block-size=1', data], { encoding: 'utf8' });
  assert.equal(usedBytes, Number(du.split('\t')[0]));
  assert.ok(usedBytes >= 3 * MIB && usedBytes < 4 * MIB);
  assert.deepEqual(await volumeUsage(join(volumes, 'none')), []);
});

test('who makes too many files is not counted to the end', async (t) => {
  const volumes = volumesOf(t);
  const data = join(volumes, 'kubernetes.io~empty-dir/data');
  mkdirSync(data);
  for (let n = 0; n < 20_001; n++) writeFileSync(join(data, String(n)), '');
  const [found] = await volumeUsage(volumes);
  assert.equal(found?.isPartial, true);
  assert.equal(found.inodesUsed, 20_000);
});

const asRoot = process.getuid?.() === 0 ? {} : { skip: 'needs root' };

test('a volume in memory says itself how full it is', asRoot, async (t) => {
  const volumes = volumesOf(t);
  const cache = join(volumes, 'kubernetes.io~empty-dir/cache');
  mkdirSync(cache);
  const { signal } = new AbortController();
  await mountTmpfs(cache, { mode: 0o777, sizeBytes: 8 * MIB }, signal);
  try {
    writeFileSync(join(cache, 'file'), Buffer.alloc(2 * MIB, 1));
    const [found] = await volumeUsage(volumes);
    assert.equal(found?.name, 'cache');
    assert.deepEqual(
      [found.capacityBytes, found.usedBytes, found.availableBytes, found.inodesUsed],
      [8 * MIB, 2 * MIB, 6 * MIB, 2],
    );
  } finally {
    await unmount(cache, signal);
  }
});
