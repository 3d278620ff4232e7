/**
 * Runs a command through the CRI socket that it is given, twice, and prints by how many MB the
 * second run made this process grow. A process of its own, with the flags of the agent.
 */
import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { Channel } from '../../src/cri/channel.ts';
import { createRuntimeService } from '../../src/cri/runtime.ts';

const clock = systemClock('boot', () => 0);
const random = seededRandom(1);
await using channel = new Channel(process.argv[2] ?? '', { clock, random, maxMessageBytes: 1024 });
const runtime = createRuntimeService(channel);
const never = new AbortController().signal;

await runtime.execSync('c1', ['yes'], 60, never);
const before = process.memoryUsage.rss();
let most = before;
const measure = () => {
  most = Math.max(most, process.memoryUsage.rss());
  timer = clock.at(clock.now().monoMs + 5, measure);
};
let timer = clock.at(0, measure);
const { output } = await runtime.execSync('c1', ['yes'], 60, never);
timer.cancel();
process.stdout.write(JSON.stringify({ grownMb: (most - before) / 2 ** 20, kept: output.length }));
