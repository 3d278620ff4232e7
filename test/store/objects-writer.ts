/** Stores an object with the given text and waits to be killed. */
import { writeSync } from 'node:fs';
import { systemClock } from '../../src/base/clock.ts';
import { open } from './world.ts';

const [directory, podsDirectory, text] = process.argv.slice(2) as [string, string, string];
const clock = systemClock('boot', () => 0);
const store = open({ directory, podsDirectory }, { clock });
store.putObject({ kind: 'Secret', namespace: 'x', name: 'a', uid: 'uid-a', version: '1', text });
writeSync(1, 'stored\n');
clock.at(clock.now().monoMs + 60_000, () => store[Symbol.dispose]());
