/** How the board feels: what a virtual machine can really be made to suffer from. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../../../scripts/lib/install-limpet.ts';
import { run } from '../../../scripts/lib/process.ts';
import type { BoardCondition } from '../../../src/node/board.ts';
import type { Board } from '../board.ts';
import type { Cases } from './case.ts';

/** Longer than the slowest source that is waited for, twice, on a slow host. */
const TURN_MS = 180_000;

async function untilCondition(
  board: Board,
  type: string,
  status: BoardCondition['status'],
): Promise<BoardCondition> {
  const { board: seen } = await until(
    `${type} is ${status}`,
    () => board.status(),
    (report) => report.board.conditions.some((one) => one.type === type && one.status === status),
    { timeoutMs: TURN_MS, everyMs: 2000 },
  );
  const found = seen.conditions.find((one) => one.type === type);
  assert.ok(found !== undefined);
  board.note(`${type} is ${status}: ${found.reason}: ${found.message}`);
  return found;
}

/** It was told of as an event of the Node, and stands in the table if it is bad. */
async function isTold(board: Board, { type, status, reason, message }: BoardCondition) {
  const text = `${type} is ${status}: ${message}`;
  // Told when all sources of a round have looked.
  await until(
    `an event tells that ${type} is ${status}`,
    () => board.events(),
    (events) =>
      events.some(
        (one) => one.object.kind === 'Node' && one.reason === reason && one.message === text,
      ),
    { timeoutMs: 30_000, everyMs: 1000 },
  );
  if (status !== 'True') return;
  assert.match(await board.sh('limpet status'), new RegExp(`^${type} +True `, 'm'));
}

async function clockNotSet(board: Board): Promise<void> {
  const { reason } = await untilCondition(board, 'ClockUntrusted', 'True');
  assert.equal(reason, 'NotSynchronized');
}

/** The machine has no tool for it. */
async function makeFileSystem(board: Board, path: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'limpet-health-'));
  try {
    const image = join(folder, 'health.img');
    await run('mkfs.ext4', ['-q', image, '8M'], { timeoutMs: 30_000 });
    await board.node.copyIn(image, path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** By hand; and by the kernel itself, when it finds an error in a file system. */
async function readOnlyFileSystem(board: Board): Promise<void> {
  await makeFileSystem(board, '/var/health.img');
  await board.sh(
    'modprobe loop && mkdir -p /mnt/health && mount -o loop,errors=remount-ro /var/health.img /mnt/health',
  );
  const device = (await board.sh('findmnt -no SOURCE /mnt/health')).trim();
  try {
    const isSeen = ({ board: { figures } }: Awaited<ReturnType<Board['status']>>) =>
      figures.some(({ of, value }) => of === `/mnt/health (${device})` && value === 1);
    await until('the mount is seen', () => board.status(), isSeen, { timeoutMs: TURN_MS });
    await board.sh('mount -o remount,ro /mnt/health');
    assert.match(
      (await untilCondition(board, 'StorageReadOnly', 'True')).message,
      /^\/mnt\/health /,
    );
    await board.sh('mount -o remount,rw /mnt/health');
    await isTold(board, await untilCondition(board, 'StorageReadOnly', 'False'));
    const name = device.replace('/dev/', '');
    await board.sh(`echo broken > /sys/fs/ext4/${name}/trigger_fs_error`);
    const lost = await untilCondition(board, 'StorageReadOnly', 'True');
    assert.match(lost.message, /^\/mnt\/health /);
    await isTold(board, lost);
    const errors = await untilCondition(board, 'StorageErrors', 'True');
    assert.match(errors.message, new RegExp(`^${name}: [1-9]`));
    await isTold(board, errors);
  } finally {
    await board.sh('umount /mnt/health; rm -f /var/health.img');
  }
  await isTold(board, await untilCondition(board, 'StorageReadOnly', 'False'));
  await isTold(board, await untilCondition(board, 'StorageErrors', 'False'));
}

async function cable(board: Board): Promise<void> {
  await untilCondition(board, 'LinkDown', 'False');
  await board.node.unplug();
  try {
    const down = await untilCondition(board, 'LinkDown', 'True');
    assert.match(down.message, /^eth0 lost its link/);
    await isTold(board, down);
  } finally {
    await board.node.plug();
  }
  await isTold(board, await untilCondition(board, 'LinkDown', 'False'));
}

async function littleRoom(board: Board): Promise<void> {
  try {
    await board.sh(
      'free=$(df --output=avail -B1 / | tail -n 1); size=$(df --output=size -B1 / | tail -n 1); ' +
        'fallocate -l $((free - size / 20)) /var/fill',
    );
    await isTold(board, await untilCondition(board, 'StorageFull', 'True'));
  } finally {
    await board.sh('rm -f /var/fill');
  }
  await isTold(board, await untilCondition(board, 'StorageFull', 'False'));
}

async function littleMemory(board: Board): Promise<void> {
  try {
    await board.sh(
      'kib() { sed -n "s/^$1: *\\([0-9]*\\) kB/\\1/p" /proc/meminfo; }; ' +
        'mkdir -p /mnt/memory && mount -t tmpfs -o size=100% tmpfs /mnt/memory && ' +
        // Most of it at once: each step costs an emulated machine a second.
        'head -c $(($(kib MemAvailable) - $(kib MemTotal) / 16))K /dev/zero > /mnt/memory/fill; ' +
        'while [ $(($(kib MemAvailable) * 25)) -gt $(kib MemTotal) ]; do ' +
        'head -c 4M /dev/zero >> /mnt/memory/fill || break; done',
      300_000,
    );
    await isTold(board, await untilCondition(board, 'MemoryLow', 'True'));
  } finally {
    await board.sh('umount /mnt/memory');
  }
  await isTold(board, await untilCondition(board, 'MemoryLow', 'False'));
}

/** Whoever has opened a watchdog and goes away without a word has hung, as far as it knows. */
async function watchdogReset(board: Board): Promise<void> {
  await board.sh('modprobe i6300esb');
  board.note(await board.sh('cd /sys/class/watchdog/watchdog0 && grep . identity bootstatus'));
  await board.node.restart(() => board.sh('sync; echo > /dev/watchdog0'));
  // Debian loads no watchdog by itself; the agent looks once, when it starts.
  await board.sh('modprobe i6300esb && systemctl restart limpet', 180_000);
  await board.reconnect();
  const bitten = await untilCondition(board, 'WatchdogReset', 'True');
  assert.equal(bitten.reason, 'ResetByWatchdog');
  await isTold(board, bitten);
  // A restart that somebody wanted is none of the watchdog; this one does not tell that it was not.
  await board.node.restart(() => board.sh('systemctl reboot'));
  await board.sh('modprobe i6300esb && systemctl restart limpet', 180_000);
  await board.reconnect();
  const { board: seen } = await until(
    'the watchdog is seen',
    () => board.status(),
    (report) => report.board.facts['watchdog'] === 'i6300ESB timer',
    { timeoutMs: TURN_MS, everyMs: 2000 },
  );
  assert.ok(seen.conditions.every(({ type }) => type !== 'WatchdogReset'));
}

/** The drive is QEMU's, its warnings are set by hand; the log page is the drive's own. */
async function nvmeDrive(board: Board): Promise<void> {
  const isDone = (answer: string) => assert.equal(answer.trim().replace(/^OK$/, ''), '');
  const drive = 'if=none,id=health,format=raw,file=null-co://,file.size=67108864';
  isDone(await board.node.monitor(`drive_add 0 ${drive}`));
  isDone(
    await board.node.monitor('device_add nvme,id=health,bus=free-slot,serial=LIMPET1,drive=health'),
  );
  const restart = () => board.sh('systemctl restart limpet', 180_000);
  try {
    await board.sh("modprobe nvme; timeout 60 sh -c 'until [ -b /dev/nvme0n1 ]; do sleep 1; done'");
    await board.sh('dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=8 oflag=direct 2>/dev/null');
    // It takes no writes any more, and is not to be relied on.
    isDone(
      await board.node.monitor('qom-set /machine/peripheral/health smart_critical_warning 12'),
    );
    await restart();
    // It is asked two minutes after the start.
    await board.sh('until [ -e /run/limpet/drives.json ]; do sleep 2; done', 300_000);
    const ended = await untilCondition(board, 'StorageReadOnly', 'True');
    assert.equal(ended.reason, 'DriveIsReadOnly');
    await isTold(board, ended);
    // What was told is known from the start, and not asked for again.
    await restart();
    const worn = await untilCondition(board, 'StorageWorn', 'True');
    assert.match(worn.message, /^nvme0n1: it says that it has had too many errors/);
    const { board: seen } = await board.status();
    const figure = (name: string) =>
      seen.figures.find((one) => one.name === name && one.of === 'nvme0n1')?.value;
    assert.equal(figure('disk_warning_bits'), 12);
    assert.equal(figure('disk_life_used_ratio'), 0);
    // Counted in thousands of 512 bytes, begun ones as well.
    assert.equal(figure('disk_written_bytes'), Math.ceil((8 << 20) / 512_000) * 512_000);
    assert.equal(seen.facts['nvme0n1.serial'], 'LIMPET1');
  } finally {
    isDone(await board.node.monitor('device_del health'));
    await board.sh(
      "rm -f /run/limpet/drives.json; timeout 60 sh -c 'while [ -e /dev/nvme0 ]; do sleep 1; done'",
    );
    await restart();
  }
  await isTold(board, await untilCondition(board, 'StorageReadOnly', 'False'));
}

/** An agent that starts again knows since when. */
async function keptOverRestart(board: Board): Promise<void> {
  const before = await untilCondition(board, 'ClockUntrusted', 'True');
  const events = async () =>
    (await board.events()).filter(({ reason }) => reason === before.reason)[0]?.count;
  const count = await events();
  await board.sh('systemctl restart limpet', 180_000);
  const after = await untilCondition(board, 'ClockUntrusted', 'True');
  assert.deepEqual(after, before);
  await until(
    'all sources have looked',
    () => board.status(),
    ({ board: { figures } }) => figures.some(({ name }) => name === 'clock_synchronized'),
    { timeoutMs: TURN_MS, everyMs: 2000 },
  );
  assert.equal(await events(), count, 'no event for what is as it was');
}

export const healthCases: Cases = {
  'health: a clock that nobody has set': clockNotSet,
  'health: a restart of the agent is no turn': keptOverRestart,
  'health: a file system with errors turns read-only': readOnlyFileSystem,
  'health: the cable is out': cable,
  'health: little room on the disk': littleRoom,
  'health: little memory': littleMemory,
  'health: an NVMe drive warns of itself': nvmeDrive,
  'health: the watchdog resets the board': watchdogReset,
};
