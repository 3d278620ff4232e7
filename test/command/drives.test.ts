// The hidden command that the agent runs a few times a day.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limpet } from './cli.ts';

test('drives prints what each drive says, or why it does not, and is not in the help', async () => {
  const { code, out } = await limpet(['drives', 'nvme998', 'nvme999']);
  assert.equal(code, 0);
  const found = JSON.parse(out) as Record<string, { error?: string }>;
  assert.deepEqual(Object.keys(found), ['nvme998', 'nvme999']);
  assert.match(found['nvme999']?.error ?? '', /^can't open \/dev\/nvme999: ENOENT/);
  const wrong = await limpet(['drives', '../sda']);
  assert.equal(wrong.code, 2);
  const help = await limpet(['--help']);
  assert.ok(!/^ +drives/m.test(help.out));
});
