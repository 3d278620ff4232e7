/**
 * A server of the kubelet's port in a process of its own, whose memory a test measures. A line on
 * its standard input makes it give memory back, as the agent does whenever it has had nothing to do.
 */
import { createLog } from '../../src/base/log.ts';
import { serveHealthz } from '../../src/server/health.ts';
import { createRig } from './kubelet-rig.ts';

const collect = globalThis.gc as unknown as (options: object) => void;
const { server } = await createRig();
const endpoint = { address: '127.0.0.1', port: 0 };
const health = await serveHealthz(
  endpoint,
  createLog('error', () => undefined),
);
process.stdout.write(`${JSON.stringify({ port: server.port, healthzPort: health.port })}\n`);
process.stdin.on('data', () => {
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  process.stdout.write('rested\n');
});
process.stdin.on('end', () => process.exit(0));
