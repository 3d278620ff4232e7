/**
 * A server of the kubelet's port in a process of its own, whose memory a test measures. A line on
 * its standard input makes it give memory back, as the agent does whenever it has had nothing to do.
 */
import { createRig } from './kubelet-rig.ts';

const collect = globalThis.gc as unknown as (options: object) => void;
const { server } = await createRig();
process.stdout.write(`${JSON.stringify({ port: server.port, healthzPort: server.healthzPort })}\n`);
process.stdin.on('data', () => {
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  process.stdout.write('rested\n');
});
process.stdin.on('end', () => process.exit(0));
