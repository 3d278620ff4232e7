// The hidden command that the agent runs once a boot, on this machine.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LIMITS } from '../../src/base/limits.ts';
import { limpet } from './cli.ts';

test('inventory prints what this machine is made of, and is not in the help', async () => {
  const { code, out } = await limpet(['inventory']);
  assert.equal(code, 0);
  assert.ok(out.length < LIMITS.childAnswerBytes);
  const found = JSON.parse(out) as { cpu: { cores: number; flags?: string }; memLayout: unknown[] };
  assert.ok(found.cpu.cores >= 1);
  assert.equal(found.cpu.flags, undefined);
  assert.ok(Array.isArray(found.memLayout));
  const help = await limpet(['--help']);
  assert.ok(!help.out.includes('inventory'));
});
