// How worn disks are, by what they say and by what was written to them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wear } from '../../src/hardware/wear.ts';
import { PI_3, ROCK64 } from './boards.ts';
import { judgeAll, makeTree, sightOf, turnsOf, type Tree } from './tree.ts';

test('two worn disks are both told of', async (t) => {
  const worn = {
    'sys/block/mmcblk2/size': '1000000\n',
    'sys/block/mmcblk2/device/life_time': '0x0b 0x0b\n',
  };
  const read = await wear.read(sightOf(makeTree(t, { ...ROCK64, ...worn })));
  const [verdict] = judgeAll(wear, [read]).at(-1) ?? [];
  assert.deepEqual(verdict?.subjects, ['mmcblk1', 'mmcblk2']);
  assert.match(verdict?.message ?? '', /^mmcblk1: .*; mmcblk2: it is past the life/);
});

test('wear: what eMMC says, and what was written to a card', async (t) => {
  const judge = async (tree: Tree): Promise<string | undefined> => {
    const read = await wear.read(sightOf(makeTree(t, tree)));
    return turnsOf(wear, 'StorageWorn', [read])[0];
  };
  const life = (text: string, reserve = '0x01') => ({
    ...ROCK64,
    'sys/block/mmcblk1/device/life_time': `${text}\n`,
    'sys/block/mmcblk1/device/pre_eol_info': `${reserve}\n`,
  });
  assert.equal(await judge(life('0x01 0x02')), 'False LifeLeft');
  assert.equal(await judge(life('0x0b 0x01')), 'True LifeIsOver');
  assert.equal(await judge(life('0x01 0x01', '0x02')), 'True NearlyWorn');
  assert.equal(await judge(life('0x01 0x01', '0x03')), 'True ReserveIsOver');
  // 0 says that the maker tells nothing.
  assert.equal(await judge(life('0x00 0x00', '0x00')), 'False LifeLeft');
  const written = 'sys/fs/ext4/mmcblk0p2/lifetime_write_kbytes';
  assert.equal(await judge({ ...PI_3, [written]: `${8 * 1024 ** 3}\n` }), 'True MuchWritten');
  const virtual = {
    'sys/block/vda/size': '100\n',
    'sys/fs/ext4/vda1/lifetime_write_kbytes': '9999\n',
  };
  assert.equal(await judge(virtual), '-');
});

test('wear: what was written to a card through LUKS and LVM, and by file systems that do not count', async (t) => {
  const judge = async (tree: Tree) => {
    const read = await wear.read(sightOf(makeTree(t, tree)));
    const written = read.figures.find(({ name }) => name === 'disk_written_bytes')?.value;
    return { written, verdict: judgeAll(wear, [read]).at(-1)?.[0] };
  };
  const card = Object.fromEntries(
    Object.entries(PI_3).filter(([path]) => path.startsWith('sys/block/')),
  );
  const kib = 20 * 1024 ** 3;
  const sealed = await judge({
    ...card,
    'sys/fs/ext4/features/lazy_itable_init': 'supported\n',
    'sys/fs/ext4/dm-1/lifetime_write_kbytes': `${kib}\n`,
    'sys/class/block/dm-1/slaves/dm-0': '',
    'sys/class/block/dm-0/slaves/mmcblk0p2': '',
    // Of a file on the card, where it is counted already.
    'sys/fs/ext4/loop0/lifetime_write_kbytes': `${kib}\n`,
  });
  assert.equal(sealed.written, kib * 1024);
  assert.equal(sealed.verdict?.reason, 'MuchWritten');
  assert.match(sealed.verdict?.message ?? '', /^mmcblk0: 21990 GB written, 1380 times its size/);
  const stat = (sectors: number) => ({
    ...card,
    'sys/block/mmcblk0/stat': `100 0 800 10 200 0 ${sectors} 30 0 40 50 0 0 0 0 0 0\n`,
  });
  const calm = await judge(stat(4e9 / 512));
  assert.equal(calm.written, undefined);
  assert.equal(calm.verdict?.message, 'mmcblk0: 4 GB written since the boot');
  const worn = await judge(stat(31_116_288 * 501));
  assert.equal(worn.verdict?.reason, 'MuchWritten');
  assert.match(worn.verdict?.message ?? '', /GB written since the boot, 501 times its size/);
});

test('wear: a mirror writes to both of its disks, and rings of devices end', async (t) => {
  const disk = (name: string) => ({ [`sys/block/${name}/size`]: '31116288\n' });
  const { figures } = await wear.read(
    sightOf(
      makeTree(t, {
        ...{ ...disk('sda'), ...disk('sdb'), ...disk('sdc') },
        'sys/fs/ext4/md0/lifetime_write_kbytes': '1000\n',
        'sys/class/block/md0/slaves/sda1': '',
        'sys/class/block/md0/slaves/sdb1': '',
        'sys/fs/ext4/dm-0/lifetime_write_kbytes': '5\n',
        'sys/class/block/dm-0/slaves/dm-1': '',
        'sys/class/block/dm-1/slaves/dm-0': '',
      }),
    ),
  );
  assert.deepEqual(
    figures.filter(({ name }) => name === 'disk_written_bytes').map(({ of, value }) => [of, value]),
    [
      ['sda', 1_024_000],
      ['sdb', 1_024_000],
    ],
  );
});
