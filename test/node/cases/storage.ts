/** A card that is full, and a database that is gone or damaged. */
import assert from 'node:assert/strict';
import { until } from '../../../scripts/lib/install-limpet.ts';
import type { Board } from '../board.ts';
import { isReady, live, nameOf, podText, statusesOf, together } from '../board.ts';
import type { Cases } from './case.ts';

// Space that root may use beyond what df shows is used up by the second file.
const FILL =
  'fallocate -l $(df --output=avail -B1 / | tail -n 1) /var/fill; ' +
  'dd if=/dev/zero of=/var/fill2 bs=64k 2>/dev/null; dd if=/dev/zero of=/var/fill3 bs=512 2>/dev/null; ' +
  'sync; df --output=avail -B1 / | tail -n 1';
const EMPTY = 'rm -f /var/fill /var/fill2 /var/fill3; sync';

async function diskFull(board: Board): Promise<void> {
  await board.apply(together(podText('first', undefined), podText('second', undefined)));
  await board.untilPods('two pods run', (pods) => pods.length === 2 && pods.every(isReady));
  const before = await board.processes();
  try {
    assert.equal(Number(await board.sh(FILL)), 0);
    // What the database has room for in its log is taken still; then it is refused.
    const taken: string[] = [];
    let refusal: { readonly status: number; readonly body: unknown } | undefined;
    for (let index = 0; index < 40 && refusal === undefined; index++) {
      const answer = await board.ask('POST', '/v1/pods', podText(`late-${index}`, undefined));
      if (answer.status >= 300) refusal = answer;
      else taken.push(`late-${index}`);
    }
    board.note(`disk full: ${taken.length} pods taken before one was refused`);
    assert.equal(refusal?.status, 503, JSON.stringify(refusal));
    assert.match(
      JSON.stringify(refusal?.body),
      /nothing was changed, since it could not be stored: .+/,
    );
    const told = await board.tell('limpet apply -f -', podText('never', undefined));
    assert.equal(told.code, 1);
    assert.match(told.stderr, /could not be stored/);
    const { findings } = await until(
      'the node says that its disk is full',
      () => board.status(),
      (status) => status.findings.some(({ check }) => check === 'storage'),
      { timeoutMs: 60_000, everyMs: 1000 },
    );
    const finding = findings.find(({ check }) => check === 'storage');
    assert.equal(finding?.health, 'failed');
    assert.match(finding?.remedy ?? '', /make room/);
    const during = await board.processes();
    for (const [id, process] of before) assert.equal(during.get(id), process, 'it goes on');
    const pods = await board.pods();
    for (const name of ['first', 'second']) assert.ok(isReady(live(pods, name)!));
    assert.equal(pods.filter((p) => nameOf(p).startsWith('late-') && isReady(p)).length, 0);
    // The agent lives with it, and starts with it.
    await board.sh('systemctl restart limpet', 180_000);
    await board.untilPods(
      'the agent has started on the full disk and sees its pods',
      (seen) =>
        ['first', 'second'].every(
          (name) => live(seen, name) !== undefined && isReady(live(seen, name)!),
        ),
      60_000,
    );
  } finally {
    await board.sh(EMPTY);
  }
  await until(
    'limpet notices the space',
    () => board.status().catch(() => undefined),
    (status) => status?.findings.every(({ health }) => health === 'ok') === true,
    { timeoutMs: 90_000, everyMs: 1000 },
  );
  await board.apply(podText('afterwards', undefined));
  await board.untilPods(
    'all that was taken runs',
    (pods) => pods.every(isReady) && live(pods, 'afterwards') !== undefined,
  );
  const after = await board.processes();
  for (const [id, process] of before) assert.equal(after.get(id), process);
  await board.sh('systemctl kill -s KILL limpet; sleep 1; systemctl start limpet', 180_000);
  const { store } = await board.status();
  assert.equal(store.state, 'unclean', 'the database passed its check');
}

/** Runs pods, damages the database while the agent is away, and looks what comes of it. */
async function lose(board: Board, what: string, damage: string): Promise<void> {
  await board.apply(together(podText('first', undefined), podText('second', undefined)));
  const name = `static-${board.node.name}`;
  await board.tell('cat > /etc/kubernetes/manifests/static.yaml', podText('static', undefined));
  const pods = await board.untilPods(
    'three pods run',
    (seen) => seen.length === 3 && seen.every(isReady),
  );
  const uids = new Map(pods.map((report) => [nameOf(report), report.pod.metadata.uid]));
  const before = await board.processes();
  await board.sh(`systemctl kill -s KILL limpet; systemctl stop limpet; ${damage}; sync`);
  await board.sh('systemctl start limpet', 180_000);
  await board.untilPods(
    `after the database was ${what} the pods are there`,
    (seen) => seen.length === 3 && seen.every(isReady),
  );
  const { store, findings } = await board.status();
  board.note(`database ${what}: ${store.state}: ${store.message}`);
  assert.match(store.state, /^(restored|rebuilt)$/);
  const finding = findings.find(({ check }) => check === 'store');
  assert.equal(finding?.health, 'degraded', 'the node says so');
  assert.ok((await board.sh('limpet status')).includes(store.message ?? '?'));
  assert.deepEqual(await board.processes(), before, 'the containers went on');
  const restored = await board.pods();
  for (const [pod, uid] of uids) {
    assert.equal(live(restored, pod)?.pod.metadata.uid, uid);
    assert.equal(statusesOf(live(restored, pod)!)[0]?.restartCount, 0);
  }
  await board.sh('systemctl restart limpet', 180_000);
  await board.untilPods(
    'they are there after one more start',
    (seen) => seen.length === 3 && seen.every(isReady),
  );
  assert.deepEqual(await board.processes(), before);
  assert.equal(live(await board.pods(), name)?.source, 'file');
}

const FOLDER = '/var/lib/limpet';

export const storageCases: Cases = {
  'a full disk': diskFull,
  'the database is removed': async (board) => {
    await lose(board, 'removed', `rm ${FOLDER}/limpet.db ${FOLDER}/limpet.db-*`);
  },
  'the database is damaged': async (board) => {
    const damage =
      `dd if=/dev/urandom of=${FOLDER}/limpet.db bs=512 count=16 conv=notrunc 2>/dev/null; ` +
      `dd if=/dev/urandom of=${FOLDER}/limpet.db-wal bs=512 seek=2 count=16 conv=notrunc 2>/dev/null`;
    await lose(board, 'damaged', damage);
    const kept = await board.sh(`find ${FOLDER}/set-aside -name 'limpet.db*'`);
    if (kept.trim() === '') throw new Error('the damaged files were not kept');
  },
};
