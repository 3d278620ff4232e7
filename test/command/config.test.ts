import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { KUBERNETES_VERSION } from '../../src/base/version.ts';
import { KUBEADM_CONFIG } from '../kube/kubelet-config/cases.ts';
import { limpet } from './cli.ts';

/** What kubeadm v1.36 takes for the version of a kubelet. */
const KUBEADM_READS = /^\s*Kubernetes v((0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-\w.+]*)?)\s*$/;

function kubeadmFile(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'limpet-config-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'config.yaml'), KUBEADM_CONFIG);
  return join(folder, 'config.yaml');
}

const asKubelet = { argv0: '/usr/bin/kubelet' };

test('called kubelet it prints the version that kubeadm reads, and nothing else', async () => {
  for (const args of [['--version'], ['--version=true'], ['--v=4', '--version']]) {
    const { code, out, err } = await limpet(args, asKubelet);
    assert.deepEqual([code, out, err], [0, `Kubernetes ${KUBERNETES_VERSION}\n`, '']);
    assert.match(out.trim(), KUBEADM_READS);
  }
});

test('called kubelet it takes flags only, and says so in the words of the kubelet', async () => {
  const help = await limpet(['--help'], asKubelet);
  assert.equal(help.code, 0);
  for (const flag of ['--config ', '--kubeconfig ', '--node-ip ', '-v, --v ', '--version']) {
    assert.ok(help.out.includes(flag), flag);
  }
  for (const text of help.out.split('\n')) assert.ok(text.length <= 120, text);
  const cases: readonly [string[], string][] = [
    [['--bogus'], 'kubelet: failed to parse kubelet flag: unknown flag: --bogus\n'],
    [['--pod-infra-container-image=x'], 'unknown flag: --pod-infra-container-image\n  remove it'],
    [['--nodeip', '1'], 'unknown flag: --nodeip\n  did you mean --node-ip?\n'],
    [['--root-dir'], 'flag needs an argument: --root-dir'],
    [['status'], 'kubelet: unknown command status'],
    [['--v=x'], 'invalid argument "x" for "-v, --v" flag: strconv.ParseInt: parsing "x"'],
  ];
  for (const [args, expected] of cases) {
    const { code, out, err } = await limpet(args, asKubelet);
    assert.equal(code, 2);
    assert.equal(out, '');
    assert.ok(err.includes(expected), err);
  }
});

test('a configuration that cannot be used ends it before anything is touched', async (t) => {
  const path = kubeadmFile(t);
  writeFileSync(path, `${KUBEADM_CONFIG}maxPods: many\nseccompDefault: true\n`);
  for (const [args, options] of [
    [['run', `--config=${path}`], {}],
    [[`--config=${path}`], asKubelet],
    [['config', `--config=${path}`], {}],
  ] as const) {
    const { code, err } = await limpet([...args], options);
    assert.equal(code, 1);
    assert.match(err, /the configuration can't be used, 2 problem\(s\):\n/);
    assert.match(err, /config\.yaml:49: maxPods: "many": must be a whole number, not text/);
    assert.match(err, /config\.yaml:50: seccompDefault: true: is not carried out/);
  }
});

test('the configuration is shown with where each value is from', async (t) => {
  const path = kubeadmFile(t);
  const args = ['config', '--kubelet', `--config=${path}`, '--max-pods', '7', '--kube-api-burst=5'];
  const { code, out, err } = await limpet(args);
  assert.equal(code, 0);
  const row = (name: string) =>
    out
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.split(/\s{2,}/);
  assert.deepEqual(row('maxPods'), ['maxPods', '--max-pods', '7']);
  assert.deepEqual(row('clusterDomain'), ['clusterDomain', `${path}:18`, 'cluster.local']);
  assert.deepEqual(row('syncFrequency'), ['syncFrequency', 'default', '1m0s']);
  assert.deepEqual(row('rootDirectory'), ['rootDirectory', 'default', '/var/lib/kubelet']);
  assert.match(err, /^warning: --kube-api-burst: without effect, /);
  const wide = await limpet([...args, '-o', 'wide']);
  assert.match(wide.out, /\nmaxPods +--max-pods +carried out +7\n/);
});

test('for machines it is an object, without secrets', async () => {
  const header = '--manifest-url-header=Authorization:secret-word';
  const refused = await limpet(['config', header]);
  assert.equal(refused.code, 1);
  assert.ok(!refused.err.includes('secret-word'));
  const { code, out } = await limpet(['config', '--output=json', '--sync-frequency=90s']);
  assert.equal(code, 0);
  const report = JSON.parse(out) as {
    kind: string;
    kubelet: { values: Record<string, unknown>; sources: Record<string, string> };
  };
  assert.equal(report.kind, 'Configuration');
  assert.equal(report.kubelet.values['syncFrequency'], '1m30s');
  assert.equal(report.kubelet.sources['syncFrequency'], '--sync-frequency');
  assert.deepEqual(report.kubelet.values['memorySwap'], { swapBehavior: '' });
  assert.equal(report.kubelet.sources['maxPods'], 'default');
});

test('the schema is that of LimpetConfiguration', async () => {
  const { code, out } = await limpet(['config', 'schema']);
  assert.equal(code, 0);
  assert.equal((JSON.parse(out) as { title: string }).title, 'LimpetConfiguration');
  assert.equal((await limpet(['config', 'scheme'])).code, 2);
  assert.equal((await limpet(['config', '-o', 'xml'])).code, 2);
});

test('a link by the name of kubelet to the program is a kubelet', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'limpet-link-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const link = join(folder, 'kubelet');
  symlinkSync(process.execPath, link);
  const { out } = await limpet(['--version'], { program: link });
  assert.equal(out, `Kubernetes ${KUBERNETES_VERSION}\n`);
});
