// What NVMe drives say of themselves, and what is made of it.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { DriveLog } from '../../src/hardware/nvme.ts';
import { readOnly } from '../../src/hardware/read-only.ts';
import type { HardwareSource, Reading } from '../../src/hardware/source.ts';
import { wear } from '../../src/hardware/wear.ts';
import { PI_5 } from './boards.ts';
import { healthPage } from './health-log.ts';
import { judgeAll, makeTree, sightOf, turnsOf } from './tree.ts';

/** What a source reads on a Raspberry Pi 5 whose drive says this. */
async function read(t: TestContext, source: HardwareSource, log: DriveLog): Promise<Reading> {
  return await source.read(sightOf(makeTree(t, PI_5), { driveLogs: () => ({ nvme0: log }) }));
}

test('a health log, byte by byte', async (t) => {
  const log = healthPage({ warningBits: 2, mediaErrors: 3n });
  const { figures, troubles } = await read(t, wear, log);
  assert.deepEqual(troubles, []);
  assert.ok(figures.every(({ of }) => of === 'nvme0n1'));
  assert.deepEqual(Object.fromEntries(figures.map(({ name, value }) => [name, value])), {
    disk_size_bytes: 500_118_192 * 512,
    disk_written_since_boot_bytes: 204_800 * 512,
    disk_life_used_ratio: 0.37,
    disk_warning_bits: 2,
    disk_spare_ratio: 1,
    disk_spare_threshold_ratio: 0.1,
    disk_media_errors: 3,
    disk_written_bytes: 20_000_000 * 512_000,
  });
});

test('wear: what the drive says counts, not what was written to it', async (t) => {
  const worn = async (fields: Parameters<typeof healthPage>[0]) =>
    turnsOf(wear, 'StorageWorn', [await read(t, wear, healthPage(fields))])[0];
  assert.equal(await worn({}), 'False LifeLeft');
  assert.equal(await worn({ used: 89 }), 'False LifeLeft');
  assert.equal(await worn({ used: 90 }), 'True NearlyWorn');
  assert.equal(await worn({ used: 100 }), 'True NearlyWorn');
  assert.equal(await worn({ used: 255 }), 'True LifeIsOver');
  assert.equal(await worn({ spare: 10 }), 'False LifeLeft');
  assert.equal(await worn({ spare: 9 }), 'True ReserveIsOver');
  assert.equal(await worn({ warningBits: 0x01 }), 'True ReserveIsOver');
  assert.equal(await worn({ warningBits: 0x04 }), 'True Unreliable');
  assert.equal(await worn({ warningBits: 0x10 }), 'True BackupFailed');
  // Heat, and what is of no concern here or reserved.
  assert.equal(await worn({ warningBits: 0xe2 }), 'False LifeLeft');
  assert.equal(await worn({ unitsWritten: 10n ** 9n }), 'False LifeLeft');
});

test('a drive that takes no writes any more', async (t) => {
  const [well, ended] = [healthPage(), healthPage({ warningBits: 0x08 })];
  const looks = [await read(t, readOnly, well), await read(t, readOnly, ended)];
  const verdicts = judgeAll(readOnly, [...looks, ...looks]).map(([verdict]) => verdict);
  assert.deepEqual(
    verdicts.map((verdict) => `${verdict?.status} ${verdict?.reason}`),
    ['False Writable', 'True DriveIsReadOnly', 'False Writable', 'True DriveIsReadOnly'],
  );
  assert.match(verdicts[1]?.message ?? '', /^nvme0 takes no writes/);
});

test('no answer, and answers that can not be, are troubles and no health', async (t) => {
  const page = (bytes: Uint8Array) => ({ page: Buffer.from(bytes).toString('base64') });
  const rubbish = Uint8Array.from({ length: 512 }, (_, index) => (index * 7919 + 101) % 256);
  for (const [log, said] of [
    [{ error: 'it took longer than 60 s' }, /^the health log of \/dev\/nvme0: it took longer/],
    [page(new Uint8Array(512)), /says nothing/],
    [page(new Uint8Array(511).fill(1)), /511 bytes/],
    [page(new Uint8Array(512).fill(255)), /255 % of spare/],
    [page(rubbish), /can't be/],
    [{ page: 'no base64 \u001b[2J' }, /bytes and not 512/],
    [healthPage({ spare: 101 }), /101 % of spare/],
    [healthPage({ unitsWritten: 1n << 90n }), /written/],
    [healthPage({ mediaErrors: 1n << 64n }), /errors can't be/],
  ] as const) {
    for (const source of [wear, readOnly]) {
      const bad = await read(t, source, log);
      assert.equal(bad.troubles.length, 1);
      assert.match(bad.troubles[0] ?? '', said);
      assert.ok(bad.troubles[0]!.length < 300);
    }
    const well = await read(t, wear, healthPage({ used: 95 }));
    const bad = await read(t, wear, log);
    // What was bad is not well because nobody says so; here ext4 still counts.
    assert.deepEqual(turnsOf(wear, 'StorageWorn', [well, bad, bad, bad, bad, well]), [
      ...['True NearlyWorn', 'True NearlyWorn', 'True NearlyWorn'],
      ...['Unknown Unreadable', 'Unknown Unreadable', 'True NearlyWorn'],
    ]);
  }
});

test('disks that are no NVMe, and drives that are no disk', async (t) => {
  const driveLogs = () => ({ nvme7: healthPage({ used: 100 }), 'nvme0/..': healthPage() });
  const root = makeTree(t, PI_5);
  const { figures, troubles } = await wear.read(sightOf(root, { driveLogs }));
  assert.deepEqual(troubles, []);
  assert.ok(figures.every(({ name }) => name !== 'disk_life_used_ratio'));
});
