import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import {
  createTerminationLog,
  linkContainerLog,
  nodeDns,
  removeDeadLogLinks,
  removeForgottenPods,
  setUpPodFiles,
  tearDownPodFiles,
  terminationMessage,
  writeHostsFile,
  type PodPaths,
} from '../../src/agent/pod-files.ts';
import { Failure } from '../../src/base/failure.ts';
import type { Container } from '../../src/kube/pod.ts';
import { setUpVolume } from '../../src/volume/index.ts';
import { aContainer, aPod } from '../pod/a-pod.ts';
import { aContext } from '../volume/a-context.ts';
import { bindAt, scratch } from '../volume/scratch.ts';

const signal = AbortSignal.timeout(60_000);
const ID = 'c'.repeat(64);
const LOGS = 'log/pods/default_shop_1f0a-22';
const NO_NETWORK_YET = { ips: [], clusterDomain: '' };

function pathsIn(path: string): PodPaths {
  return {
    rootDirectory: join(path, 'kubelet'),
    logRoot: join(path, 'log/pods'),
    linkDirectory: join(path, 'log/containers'),
  };
}

function modes(path: string, names: readonly string[]): readonly string[] {
  return names.map((name) => (lstatSync(join(path, name)).mode & 0o7777).toString(8));
}

async function writtenBytes(): Promise<number> {
  return Number(/^write_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'latin1'))?.[1]);
}

test('directories, with their modes whatever the umask, parents of others left alone', async () => {
  using dir = scratch();
  mkdirSync(join(dir.path, 'log'), { mode: 0o711 });
  const pod = aPod({ initContainers: [aContainer({ name: 'init' })] });
  const before = process.umask(0o077);
  try {
    await setUpPodFiles(pathsIn(dir.path), pod);
    await setUpPodFiles(pathsIn(dir.path), pod);
  } finally {
    process.umask(before);
  }
  const own = ['volumes', 'containers', 'containers/web', 'containers/init'];
  const podDirectory = join(dir.path, 'kubelet/pods/1f0a-22');
  assert.deepEqual(modes(podDirectory, ['.', ...own]), ['750', '750', '750', '750', '750']);
  assert.deepEqual(modes(dir.path, ['log', 'log/pods', 'log/containers', 'kubelet']), [
    '711',
    '755',
    '755',
    '750',
  ]);
  assert.deepEqual(modes(join(dir.path, LOGS), ['.', 'web', 'init']), ['755', '755', '755']);
});

test('/etc/hosts is written in place, and only when it differs', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const pod = aPod({ subdomain: 'db' });
  await setUpPodFiles(paths, pod);
  const facts = { ips: ['10.1.0.7'], clusterDomain: 'cluster.local' };
  const path = await writeHostsFile(paths, pod, facts);
  assert.equal(path, join(dir.path, 'kubelet/pods/1f0a-22/etc-hosts'));
  const text = readFileSync(path, 'utf8');
  assert.match(text, /^# Kubernetes-managed hosts file\.\n127\.0\.0\.1\tlocalhost\n/);
  assert.match(text, /^10\.1\.0\.7\tshop\.db\.default\.svc\.cluster\.local\tshop$/m);
  assert.deepEqual(modes(dirname(path), ['etc-hosts']), ['644']);

  const { ino, mtimeNs } = statSync(path, { bigint: true });
  const bytes = await writtenBytes();
  await writeHostsFile(paths, pod, facts);
  assert.equal(statSync(path, { bigint: true }).mtimeNs, mtimeNs, 'it was written again');
  assert.equal(await writtenBytes(), bytes);

  // A container wrote into it; what is mounted there is this inode.
  appendFileSync(path, '6.6.6.6\texample.com\n');
  await writeHostsFile(paths, pod, facts);
  assert.equal(readFileSync(path, 'utf8'), text);
  writeFileSync(path, 'x'.repeat(text.length));
  await writeHostsFile(paths, pod, facts);
  assert.equal(readFileSync(path, 'utf8'), text);
  assert.equal(statSync(path, { bigint: true }).ino, ino);
});

test('/etc/hosts of a pod with the node’s network is the node’s', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const pod = aPod({ hostNetwork: true, hostAliases: [{ ip: '10.0.0.9', hostnames: ['x'] }] });
  await setUpPodFiles(paths, pod);
  const text = readFileSync(await writeHostsFile(paths, pod, NO_NETWORK_YET), 'utf8');
  assert.ok(text.startsWith('# Kubernetes-managed hosts file (host network).\n'));
  assert.ok(text.includes(readFileSync('/etc/hosts', 'utf8')));
  assert.ok(text.endsWith('\n# Entries added by HostAliases.\n10.0.0.9\tx\n'));
});

test('a link in the place of a file of ours is not followed', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const pod = aPod();
  await setUpPodFiles(paths, pod);
  const victim = join(dir.path, 'victim');
  writeFileSync(victim, 'untouched');
  const own = join(dir.path, 'kubelet/pods/1f0a-22');
  symlinkSync(victim, join(own, 'etc-hosts'));
  symlinkSync(victim, join(own, 'containers/web/00000000'));
  await assert.rejects(writeHostsFile(paths, pod, NO_NETWORK_YET), Failure);
  await assert.rejects(createTerminationLog(paths, pod, aContainer(), 0), Failure);
  const ended = { attempt: 0, exitCode: 1, reason: 'Error' };
  const message = await terminationMessage(paths, pod, aContainer(), ended);
  assert.match(message, /^Error on reading termination log .*: .*symbolic link$/);
  assert.equal(readFileSync(victim, 'utf8'), 'untouched');
});

test('one file for the last words of each attempt, for all to write', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const pod = aPod();
  await setUpPodFiles(paths, pod);
  const before = process.umask(0o077);
  try {
    for (const attempt of [0, 1, 2, 258]) {
      const path = await createTerminationLog(paths, pod, aContainer(), attempt);
      assert.equal(modes(dirname(path!), [path!.slice(-8)])[0], '666');
    }
  } finally {
    process.umask(before);
  }
  const directory = join(dir.path, 'kubelet/pods/1f0a-22/containers/web');
  assert.deepEqual(readdirSync(directory), ['00000102']);
  await createTerminationLog(paths, pod, aContainer(), 259);
  assert.deepEqual(readdirSync(directory).sort(), ['00000102', '00000103']);
  // Made again for the same attempt: empty.
  writeFileSync(join(directory, '00000103'), 'of a container that never ran');
  await createTerminationLog(paths, pod, aContainer(), 259);
  assert.equal(statSync(join(directory, '00000103')).size, 0);
  const none = aContainer({ terminationMessagePath: '' });
  assert.equal(await createTerminationLog(paths, pod, none, 0), undefined);
});

function line(text: string, tag = 'F', stream = 'stdout'): string {
  return `2026-01-17T10:15:00.123456789Z ${stream} ${tag} ${text}\n`;
}

async function lastWords(
  changes: Partial<Container>,
  given: { file?: string | Buffer; log?: string; exitCode?: number; reason?: string },
): Promise<string> {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const container = aContainer(changes);
  const pod = aPod({ containers: [container] });
  await setUpPodFiles(paths, pod);
  const path = await createTerminationLog(paths, pod, container, 4);
  if (given.file !== undefined) writeFileSync(path!, given.file);
  if (given.log !== undefined) writeFileSync(join(dir.path, LOGS, 'web/4.log'), given.log);
  const { exitCode = 1, reason = 'Error' } = given;
  return await terminationMessage(paths, pod, container, { attempt: 4, exitCode, reason });
}

const FALLBACK = { terminationMessagePolicy: 'FallbackToLogsOnError' } as const;

for (const [name, changes, given, wanted] of [
  ['its file', {}, { file: 'out of paper\n' }, 'out of paper\n'],
  ['its file although it went well', {}, { file: 'done', exitCode: 0 }, 'done'],
  ['nothing', {}, {}, ''],
  ['not its log, if the policy is File', {}, { log: line('broken') }, ''],
  ['its file before its log', FALLBACK, { file: 'file', log: line('log') }, 'file'],
  ['its log, if it failed', FALLBACK, { log: line('a') + line('b', 'F', 'stderr') }, 'a\nb\n'],
  ['not its log, if it went well', FALLBACK, { log: line('a'), exitCode: 0 }, ''],
  ['not its log, if it never ran', FALLBACK, { log: line('a'), reason: 'ContainerCannotRun' }, ''],
  ['parts of a line', FALLBACK, { log: line('a', 'P') + line('b', 'P') + line('c') }, 'abc\n'],
  ['a last line without its end', FALLBACK, { log: line('a') + line('b').slice(0, -1) }, 'a\nb'],
  ['lines that are none', FALLBACK, { log: `garbage\n\n${line('a')}x y\n` }, 'a\n'],
  ['an empty log', FALLBACK, { log: '' }, ''],
  ['the end of a long file', {}, { file: `${'x'.repeat(5000)}end` }, `${'x'.repeat(4093)}end`],
  ['characters, not halves of them', {}, { file: `${'ü'.repeat(3000)}x` }, `${'ü'.repeat(2047)}x`],
  [
    '80 lines of its log',
    FALLBACK,
    { log: Array.from({ length: 100 }, (_, i) => line(String(i))).join('') },
    Array.from({ length: 80 }, (_, i) => `${i + 20}\n`).join(''),
  ],
  [
    '2048 bytes of its log',
    FALLBACK,
    { log: Array.from({ length: 70 }, () => line('y'.repeat(999))).join('') },
    `${'y'.repeat(47)}\n${'y'.repeat(999)}\n${'y'.repeat(999)}\n`,
  ],
  [
    '2048 bytes of a line that the runtime cut',
    FALLBACK,
    { log: line('z'.repeat(16384), 'P') + line('z'.repeat(16384), 'P') + line('end') },
    `${'z'.repeat(2044)}end\n`,
  ],
] as const) {
  test(`last words: ${name}`, async () => {
    assert.equal(await lastWords(changes, given), wanted);
  });
}

test('last words: without a log it says so, and never waits for a FIFO', async () => {
  assert.match(await lastWords(FALLBACK, {}), /^Error on reading termination message from logs: /);
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const pod = aPod();
  await setUpPodFiles(paths, pod);
  const path = (await createTerminationLog(paths, pod, aContainer(), 0))!;
  unlinkSync(path);
  execFileSync('mkfifo', [path]);
  const ended = { attempt: 0, exitCode: 1, reason: 'Error' };
  const message = await terminationMessage(paths, pod, aContainer(), ended);
  assert.match(message, /no plain file/);
});

test('last words: a log that was swapped for a link is not read', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const container = aContainer({ ...FALLBACK, terminationMessagePath: '' });
  const pod = aPod({ containers: [container] });
  await setUpPodFiles(paths, pod);
  const ended = { attempt: 0, exitCode: 1, reason: 'Error' };
  writeFileSync(join(dir.path, 'shadow'), line('root:secret'));
  symlinkSync(join(dir.path, 'shadow'), join(dir.path, LOGS, 'web/0.log'));
  assert.doesNotMatch(await terminationMessage(paths, pod, container, ended), /secret/);
  // The same with a directory on the way.
  mkdirSync(join(dir.path, 'elsewhere'));
  linkSync(join(dir.path, 'shadow'), join(dir.path, 'elsewhere/0.log'));
  renameSync(join(dir.path, LOGS, 'web'), join(dir.path, LOGS, 'web.old'));
  symlinkSync(join(dir.path, 'elsewhere'), join(dir.path, LOGS, 'web'));
  assert.doesNotMatch(await terminationMessage(paths, pod, container, ended), /secret/);
});

test('links for log collectors; logs and links of attempts long ago go', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const pod = aPod();
  await setUpPodFiles(paths, pod);
  await linkContainerLog(paths, pod, 'web', 0, ID);
  assert.deepEqual(readdirSync(paths.linkDirectory), [], 'there is no log yet');
  const log = (name: string) => join(dir.path, LOGS, 'web', name);
  for (const attempt of [0, 1, 2, 3]) {
    writeFileSync(log(`${attempt}.log`), line('x'));
    writeFileSync(log(`${attempt}.log.20260117-101500.gz`), '');
    await linkContainerLog(paths, pod, 'web', attempt, `${attempt}${ID}`);
    await linkContainerLog(paths, pod, 'web', attempt, `${attempt}${ID}`);
  }
  assert.deepEqual(readdirSync(paths.linkDirectory).sort(), [
    `shop_default_web-2${ID}.log`,
    `shop_default_web-3${ID}.log`,
  ]);
  assert.deepEqual(readdirSync(join(dir.path, LOGS, 'web')).sort(), [
    '2.log',
    '2.log.20260117-101500.gz',
    '3.log',
    '3.log.20260117-101500.gz',
  ]);
  const link = join(paths.linkDirectory, `shop_default_web-3${ID}.log`);
  assert.equal(readlinkSync(link), log('3.log'));
  unlinkSync(link);
  symlinkSync('/etc/passwd', link);
  await linkContainerLog(paths, pod, 'web', 3, `3${ID}`);
  assert.equal(readlinkSync(link), log('3.log'));
});

test('dead links to our logs are removed, those of others are not', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const pod = aPod();
  await setUpPodFiles(paths, pod);
  writeFileSync(join(dir.path, LOGS, 'web/0.log'), '');
  await linkContainerLog(paths, pod, 'web', 0, ID);
  const links = paths.linkDirectory;
  symlinkSync(join(dir.path, 'log/pods/gone_pod_u/web/0.log'), join(links, 'dead.log'));
  symlinkSync('/nowhere/at/all', join(links, 'foreign.log'));
  writeFileSync(join(links, 'file.log'), '');
  assert.equal(await removeDeadLogLinks(paths), 1);
  const live = `shop_default_web-${ID}.log`;
  assert.deepEqual(readdirSync(links).sort(), ['file.log', 'foreign.log', live]);
});

test('teardown: all of the pod, nothing of its neighbour, twice', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const pod = aPod();
  const neighbour = aPod({}, { name: 'shop2', uid: '2' });
  for (const each of [pod, neighbour]) {
    await setUpPodFiles(paths, each);
    await writeHostsFile(paths, each, { ips: ['10.1.0.7'], clusterDomain: '' });
    await createTerminationLog(paths, each, aContainer(), 0);
    const log = `default_${each.metadata.name}_${each.metadata.uid}/web/0.log`;
    writeFileSync(join(paths.logRoot, log), '');
    await linkContainerLog(paths, each, 'web', 0, ID);
  }
  mkdirSync(join(dir.path, 'outside'));
  writeFileSync(join(dir.path, 'outside/precious'), '');
  symlinkSync(join(dir.path, 'outside'), join(dir.path, LOGS, 'link'));
  symlinkSync(join(dir.path, 'outside'), join(dir.path, 'kubelet/pods/1f0a-22/containers/link'));
  await tearDownPodFiles(paths, pod, signal);
  await tearDownPodFiles(paths, pod, signal);
  assert.deepEqual(readdirSync(join(dir.path, 'kubelet/pods')), ['2']);
  assert.deepEqual(readdirSync(paths.logRoot), ['default_shop2_2']);
  assert.deepEqual(readdirSync(paths.linkDirectory), [`shop2_default_web-${ID}.log`]);
  assert.ok(existsSync(join(dir.path, 'outside/precious')));
});

test('teardown: not while there is a volume, or a mount', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const pod = aPod();
  await setUpPodFiles(paths, pod);
  const volume = { name: 'data', kind: 'emptyDir', medium: '' } as const;
  const context = aContext(paths.rootDirectory, { pod });
  const { hostPath } = await setUpVolume(context, volume, signal);
  writeFileSync(join(hostPath, 'file'), '');
  await assert.rejects(
    tearDownPodFiles(paths, pod, signal),
    (error) => error instanceof Failure && /volume .*data is still there$/.test(error.message),
  );
  assert.ok(existsSync(join(hostPath, 'file')));
  // Of a kind that we do not know.
  renameSync(dirname(hostPath), `${dirname(dirname(hostPath))}/example.com~other`);
  await assert.rejects(tearDownPodFiles(paths, pod, signal), /is still there/);
  const other = join(dirname(dirname(hostPath)), 'example.com~other/data');
  execFileSync('rm', ['-r', other]);
  mkdirSync(join(dir.path, 'outside'));
  writeFileSync(join(dir.path, 'outside/precious'), '');
  const mounted = join(dir.path, 'kubelet/pods/1f0a-22/mounted');
  mkdirSync(mounted);
  bindAt(join(dir.path, 'outside'), mounted);
  await assert.rejects(tearDownPodFiles(paths, pod, signal), /still mounted/);
  assert.ok(existsSync(join(dir.path, 'outside/precious')));
});

test('pods that nobody knows are removed with volumes and logs, others are not', async () => {
  using dir = scratch();
  const paths = pathsIn(dir.path);
  const known = aPod({}, { name: 'known', uid: 'k-1' });
  const forgotten = aPod({}, { name: 'forgotten', uid: 'f-1' });
  for (const pod of [known, forgotten]) {
    await setUpPodFiles(paths, pod);
    for (const medium of ['', 'Memory'] as const) {
      const place = aContext(paths.rootDirectory, { podUid: pod.metadata.uid, pod });
      await setUpVolume(place, { name: `v${medium.length}`, kind: 'emptyDir', medium }, signal);
    }
  }
  mkdirSync(join(paths.rootDirectory, 'pods/lost+found'));
  mkdirSync(join(paths.logRoot, 'not-of-a-pod'));
  const isKnown = (uid: string) => uid === 'k-1';
  assert.deepEqual(await removeForgottenPods(paths, isKnown, signal), ['f-1']);
  assert.deepEqual(await removeForgottenPods(paths, isKnown, signal), []);
  assert.deepEqual(readdirSync(join(paths.rootDirectory, 'pods')).sort(), ['k-1', 'lost+found']);
  assert.deepEqual(readdirSync(paths.logRoot).sort(), ['default_known_k-1', 'not-of-a-pod']);
  const volumes = 'pods/k-1/volumes/kubernetes.io~empty-dir';
  assert.deepEqual(readdirSync(join(paths.rootDirectory, volumes)).sort(), ['v0', 'v6']);
});

test('resolver settings of the node: links are followed, a missing file is an empty one', async () => {
  using dir = scratch();
  const path = join(dir.path, 'resolv.conf');
  assert.deepEqual(await nodeDns(path), { servers: [], searches: [], options: [] });
  writeFileSync(join(dir.path, 'real'), 'nameserver 127.0.0.53\nsearch lan\n');
  symlinkSync('real', path);
  const behind = join(dir.path, 'behind');
  assert.deepEqual((await nodeDns(path, behind)).servers, ['127.0.0.53']);
  writeFileSync(behind, 'nameserver 192.168.1.1\n');
  assert.deepEqual((await nodeDns(path, behind)).servers, ['192.168.1.1']);
  writeFileSync(path, 'nameserver 127.0.0.53\nnameserver 9.9.9.9\n');
  assert.deepEqual((await nodeDns(path, behind)).servers, ['127.0.0.53', '9.9.9.9']);
  truncateSync(path, 2 * 1024 * 1024);
  await assert.rejects(nodeDns(path), Failure);
});
