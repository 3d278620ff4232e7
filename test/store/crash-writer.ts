/** Runs the crash script from a step on and says of each step that it is durable, until killed. */
import { writeSync } from 'node:fs';
import { systemClock } from '../../src/base/clock.ts';
import { replay, step } from './crash-script.ts';
import { open } from './world.ts';

const [directory, podsDirectory, from] = process.argv.slice(2) as [string, string, string];
const clock = systemClock('boot', () => 0);
const store = open({ directory, podsDirectory }, { clock });
let model = replay(Number(from));
for (let n = Number(from); ; n++) {
  model = step(model, n, store);
  writeSync(1, `${n}\n`);
}
