/**
 * How worn the disks are. eMMC says it itself. Cards say nothing, so what was written to them is
 * counted; ext4 and f2fs keep that count in their superblock over reboots, so that it costs no write
 * of ours (before Linux 6.7 a power cut loses what ext4 had counted since the mount). An NVMe drive
 * says it as well, to who asks for its health log. Where none of these counts, what was written since
 * the boot is all that is known.
 * Source: JEDEC JESD84-B51, DEVICE_LIFE_TIME_EST and PRE_EOL_INFO; Linux
 * Documentation/ABI/testing/sysfs-fs-ext4, sysfs-fs-f2fs, Documentation/block/stat.rst.
 */
import type { Verdict } from '../node/board.ts';
import { disks, disksBelow } from './disks.ts';
import { draftReading, type Draft } from './draft.ts';
import { BACKUP_FAILED, driveHealth, driveOf, SPARE_LOW, UNRELIABLE } from './nvme.ts';
import { figureOf, figuresOf, unlessBlind, withoutValue, type HardwareSource } from './source.ts';

const TYPE = 'StorageWorn';
const SECTOR_BYTES = 512;
const KIB = 1024;
const GB = 1e9;
const MAX_BYTES = 2 ** 53;
const USED = 'disk_life_used_ratio';
const RESERVE = 'disk_pre_eol';
const WRITTEN = 'disk_written_bytes';
const SINCE_BOOT = 'disk_written_since_boot_bytes';
const WARNINGS = 'disk_warning_bits';
const SPARE = 'disk_spare_ratio';
const SPARE_THRESHOLD = 'disk_spare_threshold_ratio';
/** Full writes that a disk of unknown make stands: a guess, on the low side of what makers give. */
const FULL_WRITES = 500;
const WORN_USED = 0.9;
const FILE_SYSTEMS = ['ext4', 'f2fs'];

export const wear: HardwareSource = {
  name: 'wear',
  everyMs: 10 * 60_000,
  // One more than must fail, so that what a disk said itself is missed while others still count.
  keep: 4,
  types: [TYPE],
  async read({ files, driveLogs }) {
    const draft = draftReading(files);
    const all = await disks(draft);
    const counted = await countedByFileSystems(draft, all);
    for (const disk of all) {
      const at = `/sys/block/${disk}`;
      const sectors = { min: 0, max: MAX_BYTES, scale: SECTOR_BYTES };
      draft.add('disk_size_bytes', await draft.number(`${at}/size`, sectors), disk);
      draft.add(SINCE_BOOT, await sinceBoot(draft, `${at}/stat`), disk);
      const reserve = { min: 0, max: 3, base: 16 } as const;
      draft.add(RESERVE, await draft.number(`${at}/device/pre_eol_info`, reserve), disk);
      const drive = driveOf(disk) ?? '';
      const log = driveLogs()[drive];
      const health = log && driveHealth(draft, drive, log);
      const lifeTime = await lifeUsed(draft, `${at}/device/life_time`);
      draft.add(USED, lifeTime ?? health?.usedRatio, disk);
      draft.add(WARNINGS, health?.warningBits, disk);
      draft.add(SPARE, health?.spareRatio, disk);
      draft.add(SPARE_THRESHOLD, health?.spareThresholdRatio, disk);
      draft.add('disk_media_errors', health?.mediaErrors, disk);
      draft.add(WRITTEN, health?.writtenBytes ?? counted.get(disk), disk);
    }
    return draft.done();
  },
  judge(history) {
    const sample = history.samples.at(-1);
    // What was written since the boot is better than nothing, but not than what can't be read.
    const since = sample?.troubles.length === 0 ? [SINCE_BOOT] : [];
    const known = [USED, RESERVE, WRITTEN, ...since].flatMap((name) => figuresOf(history, name));
    // A disk of a virtual machine does not wear.
    const real = known.map(({ of = '' }) => of).filter((disk) => !disk.startsWith('vd'));
    const told = [...new Set(real)].toSorted();
    if (told.length === 0) return withoutValue(history, TYPE);
    const all = told.map((disk) => judgeDisk(disk, (name) => figureOf(sample, name, disk)));
    const worn = all.filter(({ status }) => status === 'True');
    const message = (worn.length > 0 ? worn : all).map((one) => one.message).join('; ');
    const [first] = worn;
    if (first === undefined) {
      const well: Verdict = { type: TYPE, status: 'False', reason: 'LifeLeft', message };
      return unlessBlind(history, well, [USED, RESERVE, WRITTEN]);
    }
    return [{ ...first, message, subjects: worn.flatMap(({ subjects = [] }) => subjects) }];
  },
};

function judgeDisk(disk: string, figure: (name: string) => number | undefined): Verdict {
  const [used, reserve, size, counted = 0, now = 0, spare = 1, spareThreshold = 0, warnings = 0] = [
    figure(USED),
    figure(RESERVE),
    figure('disk_size_bytes'),
    figure(WRITTEN),
    figure(SINCE_BOOT),
    figure(SPARE),
    figure(SPARE_THRESHOLD),
    figure(WARNINGS),
  ];
  const swap = 'make a backup (limpet keeps its own beside its state) and replace it';
  const worn = (reason: string, message: string): Verdict => ({
    ...{ type: TYPE, status: 'True', reason, subjects: [disk] },
    message: `${disk}: ${message}: ${swap}`,
  });
  if (used !== undefined && used > 1)
    return worn('LifeIsOver', 'it is past the life it was made for');
  if ((warnings & UNRELIABLE) !== 0)
    return worn('Unreliable', 'it says that it has had too many errors to be relied on');
  if ((warnings & SPARE_LOW) !== 0 || spare < spareThreshold) {
    const left = `${Math.round(spare * 100)} % of its spare blocks are left`;
    return worn('ReserveIsOver', `${left}, which is less than it needs`);
  }
  if (reserve === 3) return worn('ReserveIsOver', 'over 90 % of its spare blocks are used');
  if (used !== undefined && used >= WORN_USED) {
    return worn('NearlyWorn', `up to ${Math.round(used * 100)} % of its life is used`);
  }
  if (reserve === 2) return worn('NearlyWorn', '80 % of its spare blocks are used');
  if ((warnings & BACKUP_FAILED) !== 0)
    return worn('BackupFailed', 'what keeps its cache over a power cut has failed');
  // Of a disk with other file systems it is not known what was written before the boot.
  const written = Math.max(counted, now);
  const times = size === undefined || size === 0 ? 0 : written / size;
  const since = now > counted ? ' since the boot' : '';
  const amount = `${Math.round(written / GB)} GB written${since}`;
  // What the disk says itself counts for more than a guess.
  if (used === undefined && times >= FULL_WRITES) {
    const guess = `${amount}, ${Math.round(times)} times its size, which is a lot for a card`;
    return worn('MuchWritten', guess);
  }
  const life =
    used === undefined ? amount : `up to ${Math.round(used * 100)} % of its life is used`;
  return { type: TYPE, status: 'False', reason: 'LifeLeft', message: `${disk}: ${life}` };
}

/** What ext4 and f2fs have written over their lives, by the disks they lie on: a mirror has several. */
async function countedByFileSystems(
  draft: Draft,
  all: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const counted = new Map<string, number>();
  for (const type of FILE_SYSTEMS) {
    for (const device of await draft.names(`/sys/fs/${type}`)) {
      const below = await disksBelow(draft, device, all);
      if (below.length === 0) continue;
      const path = `/sys/fs/${type}/${device}/lifetime_write_kbytes`;
      const bytes = await draft.number(path, { min: 0, max: MAX_BYTES, scale: KIB });
      if (bytes === undefined) continue;
      for (const disk of below) counted.set(disk, (counted.get(disk) ?? 0) + bytes);
    }
  }
  return counted;
}

/** The seventh number counts sectors written. */
async function sinceBoot(draft: Draft, path: string): Promise<number | undefined> {
  const text = await draft.text(path);
  if (text === undefined) return undefined;
  const sectors = text.split(/\s+/)[6] ?? text;
  return draft.numberIn(sectors, path, { min: 0, max: MAX_BYTES, scale: SECTOR_BYTES });
}

/** Of the two kinds of memory the worse: 1 is up to 10 % used, 11 is over; 0 says nothing. */
async function lifeUsed(draft: Draft, path: string): Promise<number | undefined> {
  const text = await draft.text(path);
  if (text === undefined) return undefined;
  const values = text.split(/\s+/).slice(0, 2);
  const steps = values.map((one) => draft.numberIn(one, path, { min: 0, max: 11, base: 16 }));
  const worst = Math.max(...steps.map((step) => step ?? 0));
  return worst === 0 ? undefined : worst / 10;
}
