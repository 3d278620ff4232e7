/** Works on a store between marks on standard output, for `quiet.test.ts` to count what it does. */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.ts';
import { event, ledger, open, pod } from './world.ts';

const [directory, podsDirectory, idleMs] = process.argv.slice(2) as [string, string, string];
const mark = (name: string) => writeSync(1, `MARK ${name}\n`);
const clock = systemClock('boot', () => 0);
const uids = Array.from({ length: 10 }, (_, n) => `uid-${n}`);

mark('first start');
const first = open({ directory, podsDirectory }, { clock });
mark('put pods');
first.putPods(uids.map((uid) => ({ pod: pod('p', uid), source: 'local', specHash: '' })));
mark('stop');
first[Symbol.dispose]();

mark('start');
const store = open({ directory, podsDirectory }, { clock });
mark('warm up');
store.putLedgers([{ uid: 'uid-0', ledger: ledger(1) }]);
for (let n = 0; n < 20; n++) {
  mark(`ledger ${n}`);
  store.putLedgers([{ uid: 'uid-0', ledger: ledger(n) }]);
}
for (let n = 0; n < 3; n++) {
  mark(`batch ${n}`);
  store.putLedgers(uids.map((uid) => ({ uid, ledger: ledger(n) })));
}
mark('one pod');
store.putPod(pod('p', 'uid-more'), 'local', '');
mark('deletion');
store.putDeletion('uid-more', { graceSeconds: 1, at: clock.now() });
mark('forget');
store.forget('uid-more');
mark('backup');
store.backup();
mark('events');
for (let n = 0; n < 10; n++) store.recordEvent(event(`Reason${n}`), clock.now());
await sleep(5500);
mark('more events');
for (let n = 0; n < 10; n++) store.recordEvent(event(`Reason${n}`), clock.now());
await sleep(5500);
mark('idle');
await sleep(Number(idleMs));
mark('end');
process.kill(process.pid, 'SIGKILL');
