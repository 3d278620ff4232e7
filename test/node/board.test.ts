import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventOfTurn, turned, type BoardCondition, type Verdict } from '../../src/node/board.ts';

const AT = Date.parse('2026-01-01T00:00:00Z');
const LATER = AT + 60_000;
const verdict = (
  status: Verdict['status'],
  reason: string,
  more: Partial<Verdict> = {},
): Verdict => ({
  ...{ type: 'Overheated', status, reason, message: `it is ${reason}` },
  ...more,
});
const before: readonly BoardCondition[] = turned([], [verdict('False', 'Cool')], AT).conditions;

test('the first judgement is a turn, and no event while all is well', () => {
  const { conditions, turns } = turned([], [verdict('False', 'Cool')], AT);
  assert.equal(conditions[0]?.since, '2026-01-01T00:00:00Z');
  assert.equal(turns.length, 1);
  assert.equal(eventOfTurn(turns[0]!), undefined);
  const [bad] = turned([], [verdict('True', 'TooHot')], AT).turns;
  assert.deepEqual(eventOfTurn(bad!), {
    type: 'Warning',
    reason: 'TooHot',
    message: 'Overheated is True: it is TooHot',
  });
});

test('figures that change are no turn', () => {
  const next = turned(before, [verdict('False', 'Cool', { message: '51 °C' })], LATER);
  assert.deepEqual(next, { conditions: before, turns: [] });
});

test('another status begins anew, another reason goes on', () => {
  const hot = turned(before, [verdict('True', 'TooHot')], LATER);
  assert.equal(hot.conditions[0]?.since, '2026-01-01T00:01:00Z');
  const worse = turned(hot.conditions, [verdict('True', 'Burning')], LATER + 60_000);
  assert.equal(worse.conditions[0]?.since, '2026-01-01T00:01:00Z');
  assert.equal(worse.turns[0]?.before?.reason, 'TooHot');
  const well = turned(worse.conditions, [verdict('False', 'Cool')], LATER + 120_000);
  assert.equal(eventOfTurn(well.turns[0]!)?.type, 'Normal');
});

test('one more that it holds for is a turn', () => {
  const one = turned([], [verdict('True', 'Lost', { subjects: ['a'] })], AT).conditions;
  assert.equal(turned(one, [verdict('True', 'Lost', { subjects: ['a'] })], AT).turns.length, 0);
  assert.equal(
    turned(one, [verdict('True', 'Lost', { subjects: ['a', 'b'] })], AT).turns.length,
    1,
  );
});

test('what is not judged stays', () => {
  const other = verdict('True', 'Lost', { type: 'LinkDown' });
  const { conditions } = turned(before, [other], LATER);
  assert.deepEqual(
    conditions.map(({ type }) => type),
    ['Overheated', 'LinkDown'],
  );
});
