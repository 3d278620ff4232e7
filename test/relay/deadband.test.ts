import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isNews, stepped } from '../../src/relay/deadband.ts';

const met = (rest: object) => ({ t: 1, ttl: 600, ...rest });

test('figures come in steps, and what is no number is left out', () => {
  const given = met({ cpuPercent: 33.4, voltageV: 0.8512345, load1: 0.9, cpuMHz: Number.NaN });
  assert.deepEqual(stepped(given), met({ cpuPercent: 33, voltageV: 0.85, load1: 1 }));
});

test('a change within the band is no news, on its edge it is', () => {
  const told = met({ cpuPercent: 10, memoryPercent: 50, temperatureC: 50 });
  assert.equal(isNews(undefined, told), true);
  assert.equal(isNews(told, met({ cpuPercent: 29, memoryPercent: 59, temperatureC: 46 })), false);
  assert.equal(isNews(told, { ...told, cpuPercent: 30 }), true);
  assert.equal(isNews(told, { ...told, memoryPercent: 40 }), true);
  assert.equal(isNews(told, { ...told, temperatureC: 55 }), true);
});

test('what does not change is told again before half of its time is over', () => {
  const told = met({ cpuPercent: 10 });
  assert.equal(isNews(told, { ...told, t: 300 }), false);
  assert.equal(isNews(told, { ...told, t: 301 }), true);
  assert.equal(isNews({ ...told, t: 1000 }, { ...told, t: 1 }), true, 'the clock was set back');
});

test('a figure that comes or goes is news, also one that has no band', () => {
  const told = met({ cpuPercent: 10, load1: 1 });
  assert.equal(isNews(told, met({ cpuPercent: 10, load1: 100 })), false);
  assert.equal(isNews(told, met({ cpuPercent: 10 })), true);
  assert.equal(isNews(told, met({ cpuPercent: 10, load1: 1, temperatureC: 40 })), true);
});
