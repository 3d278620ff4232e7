/** Writes the outbox until it is killed, and says what it was promised. */
import { writeSync } from 'node:fs';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { openOutbox } from '../../src/store/outbox.ts';

const directory = process.argv[2]!;
const outbox = openOutbox(directory, {
  clock: systemClock('boot', () => 0),
  log: createLog('error', () => undefined),
});
const say = (line: string) => void writeSync(1, `${line}\n`);
for (let n = 0; ; n++) {
  const key = `${process.pid}-${n}`;
  say(`number ${outbox.number()}`);
  outbox.add({ class: 'warning', key, t: n, body: '{}' });
  if (n % 7 === 6 && outbox.flush()) {
    for (let back = 6; back >= 0; back--) say(`stored ${process.pid}-${n - back}`);
    // What is acknowledged may come again until that is written too, but never be lost before.
    for (const { q, key: sent } of outbox.take(6)) {
      say(`sent ${sent}`);
      outbox.acknowledge(q);
    }
  }
}
