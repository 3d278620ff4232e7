import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { createLinks } from '../../src/linux/links.ts';

test('a cable, an address or a route that comes is heard of; pods that come are not', () => {
  const program = [process.execPath, join(import.meta.dirname, 'links-steps.ts')];
  const out = execFileSync('unshare', ['--net', '--', ...program], { encoding: 'utf8' });
  const { said, left } = JSON.parse(out) as { said: Record<string, boolean>; left: number };
  assert.deepEqual(said, {
    nothing: false,
    'a pod comes, with addresses of the link': false,
    'an interface without an address': false,
    'an address': true,
    'the cable is out': false,
    'the cable is in': true,
    'the gateway of pods, once': true,
    'the gateway of pods, at another pod': false,
    'the default route': true,
    'out again': false,
    'still out': false,
    'in while nobody listened': true,
  });
  assert.equal(left, 0, 'no socket and no listener is left');
});

test('where the kernel can not be asked, nothing is gained and nothing fails', async () => {
  const stop = new AbortController();
  const gained = createLinks(undefined).gained(stop.signal);
  stop.abort();
  assert.equal(await gained, false);
});
