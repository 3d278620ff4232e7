/** The three pods of scripts/examples, from the command line, as a user has them. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { until } from '../../../scripts/lib/install-limpet.ts';
import type { Board } from '../board.ts';
import { isReady, live } from '../board.ts';
import type { Cases } from './case.ts';

const EXAMPLES = join(import.meta.dirname, '../../../scripts/examples');

function fetchPage(port: number): Promise<string> {
  return new Promise((resolve) => {
    const request = get({ host: '127.0.0.1', port, timeout: 5000 }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () => resolve(body.trim()));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', (error) => resolve(error.message));
  });
}

async function mainJob(board: Board): Promise<void> {
  await board.sh('rm -rf /var/lib/limpet-job');
  await board.node.copyIn(join(EXAMPLES, 'web.yaml'), '/etc/kubernetes/manifests/web.yaml');
  const worker = await readFile(join(EXAMPLES, 'worker.yaml'), 'utf8');
  const job = await readFile(join(EXAMPLES, 'job.yaml'), 'utf8');
  const first = await board.tell('limpet apply -f -', worker);
  assert.deepEqual([first.code, first.stdout], [0, 'pod/worker created\n'], first.stderr);
  await board.tell('cat > /root/job.yaml', job);
  assert.equal((await board.tell('limpet apply -f /root/job.yaml')).code, 0);
  const static_ = `web-${board.node.name}`;
  const pods = await board.untilPods('the three pods are as they should be', (seen) => {
    const [web, work, done] = [static_, 'worker', 'job'].map((name) => live(seen, name));
    return (
      web !== undefined &&
      work !== undefined &&
      isReady(web) &&
      isReady(work) &&
      done?.status.phase === 'Succeeded'
    );
  });
  assert.equal(pods.length, 3);
  const port = board.node.forwards.find(({ guest }) => guest === 8080)?.host ?? 0;
  await until(
    'the web server answers',
    () => fetchPage(port),
    (page) => page === 'limpet holds on',
    {
      timeoutMs: 60_000,
    },
  );
  const status = await board.sh('limpet status');
  assert.match(status, /^Pods:?\s+3 wanted, 2 running, 1 succeeded$/m);
  for (const name of [static_, 'worker', 'job']) assert.ok(status.includes(name), status);
  assert.match(await board.sh('limpet logs job'), /^done once$/m);
  const events = await board.sh('limpet events');
  for (const word of ['Pulled', 'Created', 'Started']) assert.ok(events.includes(word), events);
  const again = await board.tell('limpet apply -f -', worker);
  assert.deepEqual([again.code, again.stdout], [0, 'pod/worker unchanged\n']);
  assert.match(await board.sh('limpet delete pod job --wait'), /pod "job" deleted/);
  assert.equal(live(await board.pods(), 'job'), undefined);
  const refused = await board.tell(`limpet delete pod ${static_}`);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /comes from a manifest file: remove its file/);
  const nobody = await board.tell('limpet delete pod nobody');
  assert.equal(nobody.code, 4);
}

export const mainJobCases: Cases = { 'the main job': mainJob };
