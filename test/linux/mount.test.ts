import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { knowsNoSwap, mountTmpfs } from '../../src/linux/mount.ts';
import { kernelVersion, mounts } from '../../src/linux/proc.ts';
import { scratch } from '../volume/scratch.ts';

test('kernels that can keep a tmpfs out of the swap', () => {
  for (const version of ['6.3.0', '6.12.47+rpt-rpi-v8', '10.0', '6.18.44-fc']) {
    assert.ok(knowsNoSwap(version), version);
  }
  for (const version of ['6.2.16', '6.1.0-28-arm64', '5.15', '', 'x.y']) {
    assert.ok(!knowsNoSwap(version), version);
  }
});

const OPTIONS = { mode: 0o700, sizeBytes: 1024 * 1024 };

test('a tmpfs is kept out of the swap where that can be had', async () => {
  using dir = scratch();
  await mountTmpfs(dir.path, OPTIONS, AbortSignal.timeout(60_000));
  const entry = mounts().find(({ mountPoint }) => mountPoint === dir.path);
  const initial = /^\s*0\s+0\s+4294967295$/m.test(readFileSync('/proc/self/uid_map', 'latin1'));
  assert.equal(
    entry?.superOptions.includes('noswap'),
    initial && knowsNoSwap(kernelVersion()),
    entry?.superOptions.join() ?? 'it is not mounted',
  );
});

test('in a user namespace it is mounted all the same', () => {
  using dir = scratch();
  mkdirSync(join(dir.path, 'v'));
  const module = new URL('../../src/linux/mount.ts', import.meta.url).href;
  const script = `import { mountTmpfs } from ${JSON.stringify(module)};
    import { readFileSync } from 'node:fs';
    const at = process.argv[1];
    await mountTmpfs(at, ${JSON.stringify(OPTIONS)}, AbortSignal.timeout(60_000));
    console.log(readFileSync('/proc/self/mountinfo', 'utf8').includes(at + ' '));`;
  const argv = ['--user', '--map-root-user', '--mount', '--', process.execPath];
  const output = execFileSync(
    'unshare',
    [...argv, '--input-type=module', '-e', script, join(dir.path, 'v')],
    { encoding: 'utf8' },
  );
  assert.equal(output.trim(), 'true');
});
