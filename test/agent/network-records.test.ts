import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { removeLostRecords, removeTornNetworkRecords } from '../../src/agent/network-records.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';

const log = createLog('error', () => undefined, { journal: false });

test('records of the network that a power cut has torn go, whole and growing ones stay', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'limpet-cni-'));
  try {
    await mkdir(join(directory, 'results'));
    await mkdir(join(directory, 'networks/limpet'), { recursive: true });
    const file = (path: string) => join(directory, path);
    const torn = ['results/limpet-a-eth0', 'results/limpet-b-eth0', 'networks/limpet/10.88.0.4'];
    await writeFile(file(torn[0]!), '');
    await writeFile(file(torn[1]!), '{"kind": "cniCacheV1", "con');
    await writeFile(file(torn[2]!), '');
    const whole = ['results/limpet-c-eth0', 'networks/limpet/10.88.0.5', 'networks/limpet/lock'];
    await writeFile(file(whole[0]!), '{"kind": "cniCacheV1"}');
    await writeFile(file(whole[1]!), 'c\r\neth0');
    await writeFile(file(whole[2]!), '');
    const growing = 'results/limpet-d-eth0';
    await writeFile(file(growing), '{');
    const clock = systemClock('boot', () => 0);
    const { signal } = new AbortController();
    const grows = {
      ...clock,
      sleep: async () => await writeFile(file(growing), '{"kind": "cniCacheV1"}'),
    };
    const removed = await removeTornNetworkRecords(directory, { clock: grows, log }, signal);
    assert.deepEqual([...removed].sort(), torn.map(file).sort());
    for (const path of torn) assert.equal(existsSync(file(path)), false, path);
    for (const path of [...whole, growing]) assert.equal(existsSync(file(path)), true, path);
    const nowhere = join(directory, 'nowhere');
    assert.deepEqual(await removeTornNetworkRecords(nowhere, { clock, log }, signal), []);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('records of sandboxes that the runtime lost go, those of others and of new ones stay', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'limpet-cni-'));
  try {
    const file = (path: string) => join(directory, path);
    const idOf = (letter: string) => letter.repeat(64);
    for (const folder of ['results', 'networks/pods', 'networks/others']) {
      await mkdir(file(folder), { recursive: true });
    }
    const lease = (path: string, id: string) =>
      writeFile(file(`networks/${path}`), `${id}\r\neth0`);
    await lease('pods/10.88.0.2', idOf('a'));
    await lease('pods/10.88.0.3', idOf('b'));
    await lease('pods/10.88.0.4', idOf('c'));
    await lease('pods/10.88.0.5', 'default-of-another-program');
    await lease('pods/10.88.0.6', idOf('d'));
    await writeFile(file('networks/pods/last_reserved_ip.0'), '10.88.0.5');
    await lease('others/10.89.0.2', idOf('e'));
    await writeFile(file(`results/pods-${idOf('b')}-eth0`), '{}');
    await writeFile(file(`results/pods-${idOf('a')}-eth0`), '{}');
    const known = new Set([idOf('a')]);
    const clock = {
      ...systemClock('boot', () => 0),
      // One is listed at last, and one address has a new owner.
      sleep: async () => {
        known.add(idOf('c'));
        await rm(file('networks/pods/10.88.0.6'));
        await lease('pods/10.88.0.6', `${idOf('f')}`);
      },
    };
    const { signal } = new AbortController();
    const ask = () => Promise.resolve(known);
    const removed = await removeLostRecords(directory, ask, true, { clock, log }, signal);
    assert.deepEqual(removed.toSorted(), [
      file('networks/pods/10.88.0.3'),
      file(`results/pods-${idOf('b')}-eth0`),
    ]);
    for (const path of removed) assert.equal(existsSync(path), false);
    assert.deepEqual((await readdir(file('networks/pods'))).sort(), [
      '10.88.0.2',
      '10.88.0.4',
      '10.88.0.5',
      '10.88.0.6',
      'last_reserved_ip.0',
    ]);
    assert.deepEqual(await readdir(file('networks/others')), ['10.89.0.2']);
    assert.deepEqual(await readdir(file('results')), [`pods-${idOf('a')}-eth0`]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('before anything is new, what is lost goes at once, also where no lease is left of it', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'limpet-cni-'));
  try {
    const file = (path: string) => join(directory, path);
    const [known, lost] = ['a'.repeat(64), 'b'.repeat(64)];
    await mkdir(file('results'), { recursive: true });
    for (const id of [known, lost]) {
      await writeFile(file(`results/cni-loopback-${id}-lo`), '{}');
      await writeFile(file(`results/limpet-${id}-eth0`), '{}');
    }
    await writeFile(file(`results/of-others-${lost}-eth0`), '{}');
    const never = async () => assert.fail('nothing is to be waited for');
    const clock = { ...systemClock('boot', () => 0), sleep: never };
    const { signal } = new AbortController();
    const ask = () => Promise.resolve(new Set([known]));
    await removeLostRecords(directory, ask, false, { clock, log }, signal);
    assert.deepEqual((await readdir(file('results'))).sort(), [
      `cni-loopback-${known}-lo`,
      `limpet-${known}-eth0`,
      `of-others-${lost}-eth0`,
    ]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
