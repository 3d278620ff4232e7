/** From real files and flags to what the agent is told. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { readConfiguration, type CalledAs } from '../../src/agent/configuration.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { parseFlags } from '../../src/kube/parse-flags.ts';
import { cpuCount } from '../../src/linux/proc.ts';
import { KUBEADM_CONFIG } from '../kube/kubelet-config/cases.ts';

const HEAD = 'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n';
const LIMPET = 'apiVersion: limpet.dev/v1alpha1\nkind: LimpetConfiguration\n';

class Folder {
  readonly path = mkdtempSync(join(tmpdir(), 'limpet-configuration-'));

  write(name: string, content: string): string {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    return path;
  }

  async read(calledAs: CalledAs, ...args: readonly string[]) {
    const named = args.map((arg) => arg.replace('DIR', this.path));
    // A file of limpet's own on this machine would count.
    const own = args.some((arg) => arg.startsWith('--limpet-config'))
      ? []
      : [`--limpet-config=${this.write('none.yaml', LIMPET)}`];
    const flags = parseFlags([...own, ...named], this.path);
    return await readConfiguration(flags, { calledAs, directory: this.path });
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

test('limpet alone has its own defaults, a kubelet without files those of a kubelet', async () => {
  using folder = new Folder();
  const alone = (await folder.read('limpet')).options!;
  assert.equal(alone.manifestDirectory, '/etc/kubernetes/manifests');
  assert.equal(alone.rootDirectory, '/var/lib/limpet');
  assert.equal(alone.cgroupDriver, 'systemd');
  assert.equal(alone.clusterDomain, 'cluster.local');
  assert.equal(alone.nodeName, hostname().toLowerCase());
  assert.equal(alone.kubelet.authentication.anonymous.enabled, false);
  assert.deepEqual(alone.kubelet.evictionHard, {});
  const kubelet = (await folder.read('kubelet')).options!;
  assert.equal(kubelet.manifestDirectory, undefined);
  assert.equal(kubelet.rootDirectory, '/var/lib/kubelet');
  assert.equal(kubelet.cgroupDriver, 'cgroupfs');
  assert.equal(kubelet.clusterDomain, '');
  assert.equal(kubelet.kubelet.readOnlyPort, 10_255);
  assert.equal(kubelet.kubelet.authorization.mode, 'AlwaysAllow');
  assert.equal(kubelet.flags.certDir, '/var/lib/kubelet/pki');
});

test('what kubeadm writes makes a node', async () => {
  using folder = new Folder();
  folder.write('config.yaml', KUBEADM_CONFIG);
  // KUBELET_KUBECONFIG_ARGS, KUBELET_CONFIG_ARGS and KUBELET_KUBEADM_ARGS of 10-kubeadm.conf.
  const { options, problems } = await folder.read(
    'kubelet',
    '--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf',
    '--kubeconfig=/etc/kubernetes/kubelet.conf',
    '--config=DIR/config.yaml',
    '--hostname-override=Pi-1',
    '--register-with-taints=node-role.kubernetes.io/control-plane:NoSchedule',
  );
  assert.deepEqual(problems, []);
  assert.equal(options!.manifestDirectory, '/etc/kubernetes/manifests');
  assert.equal(options!.nodeName, 'pi-1');
  assert.equal(options!.cgroupDriver, 'systemd');
  assert.deepEqual(options!.clusterDNS, ['10.96.0.10']);
  assert.equal(options!.flags.kubeconfig, '/etc/kubernetes/kubelet.conf');
  assert.equal(options!.kubelet.authentication.x509.clientCAFile, '/etc/kubernetes/pki/ca.crt');
  assert.equal(options!.kubelet.nodeStatusUpdateFrequency, 10_000);
  assert.equal(options!.kubelet.evictionHard['imagefs.available'], '15%');
  assert.equal(options!.kubelet.registerWithTaints[0]!.effect, 'NoSchedule');
  assert.deepEqual(options!.cluster, {
    kubeconfig: '/etc/kubernetes/kubelet.conf',
    bootstrapKubeconfig: '/etc/kubernetes/bootstrap-kubelet.conf',
    certDirectory: '/var/lib/kubelet/pki',
    registration: { labels: {}, taints: options!.kubelet.registerWithTaints },
    rotate: true,
    runDirectory: '/run/limpet',
    servingCertificate: false,
  });
});

test('flags win over drop-ins, those over the file, and all that over defaults', async () => {
  using folder = new Folder();
  folder.write(
    'config.yaml',
    `${HEAD}maxPods: 1\nclusterDomain: a\npodLogsDir: logs\nresolvConf: ""\n`,
  );
  folder.write('real/20.conf', `${HEAD}maxPods: 3\nstaticPodPath: m\n`);
  folder.write('real/10.conf', `${HEAD}maxPods: 2\nclusterDomain: b\n`);
  folder.write('real/deep/1.conf', `${HEAD}containerLogMonitorInterval: 30s\n`);
  folder.write('real/ignored.yaml', 'rubbish: [');
  symlinkSync('real', join(folder.path, 'conf.d'));
  const args = ['--config=config.yaml', '--config-dir', 'conf.d', '--container-log-max-files=3'];
  const { options, settings, problems } = await folder.read(
    'limpet',
    ...args,
    '--cluster-domain=c',
  );
  assert.deepEqual(problems, []);
  assert.equal(options!.maxPods, 3);
  assert.equal(options!.clusterDomain, 'c');
  assert.equal(options!.podLogsDirectory, `${folder.path}/logs`);
  assert.equal(options!.manifestDirectory, `${folder.path}/m`);
  assert.equal(options!.containerLogMonitorIntervalMs, 30_000);
  assert.equal(options!.containerLogMaxFiles, 3);
  assert.equal(options!.resolvConf, '');
  assert.equal(options!.cgroupDriver, 'cgroupfs');
  const { source } = settings.get('maxPods')!;
  assert.deepEqual(source, { from: 'file', file: `${folder.path}/conf.d/20.conf`, line: 3 });
});

test('pods per core bound the pods', async () => {
  using folder = new Folder();
  const { options } = await folder.read('limpet', '--pods-per-core=2');
  assert.equal(options!.maxPods, Math.min(110, 2 * cpuCount()));
});

test("limpet's own file, and what it comes after", async () => {
  using folder = new Folder();
  folder.write('l.yaml', `${LIMPET}rootDirectory: state\nlogLevel: warn\nrunDirectory: /run/x\n`);
  const one = (await folder.read('kubelet', '--limpet-config=l.yaml', '--run-dir=/run/y')).options!;
  assert.equal(one.rootDirectory, `${folder.path}/state`);
  assert.equal(one.runDirectory, '/run/y');
  assert.equal(one.logLevel, 'warn');
  assert.equal((await folder.read('limpet', '-v=4')).options!.logLevel, 'debug');
  assert.equal((await folder.read('limpet', '--v=3')).options!.logLevel, 'info');
  const missing = await folder.read('limpet', '--limpet-config=DIR/nix.yaml');
  assert.deepEqual(missing.problems, [`${folder.path}/nix.yaml: is not there`]);
});

test('a file that cannot be read is named, with why', async () => {
  using folder = new Folder();
  mkdirSync(join(folder.path, 'directory'));
  assert.equal(spawnSync('mkfifo', [join(folder.path, 'fifo')]).status, 0);
  writeFileSync(join(folder.path, 'binary'), Buffer.from([0xff, 0xfe, 0x00, 0x80]));
  writeFileSync(join(folder.path, 'large'), 'a'.repeat(LIMITS.manifestBytes + 1));
  for (const [name, why] of [
    ['nix', /nix: is not there$/],
    ['directory', /directory: is a directory/],
    ['fifo', /fifo: is a fifo and not a file/],
    ['binary', /binary: is UTF-16; save it as UTF-8$/],
    ['large', /large: has \d+ bytes, more than/],
  ] as const) {
    const { problems, options } = await folder.read('limpet', `--config=DIR/${name}`);
    assert.equal(options, undefined);
    assert.equal(problems.length, 1, problems.join('\n'));
    assert.match(problems[0]!, why);
  }
});

test('drop-ins that are none', async () => {
  using folder = new Folder();
  folder.write('a/1.conf', 'apiVersion: v1\nkind: ConfigMap\n');
  folder.write('a/2.conf', '');
  const { problems } = await folder.read('limpet', '--config-dir=DIR/a');
  assert.equal(problems.length, 3, problems.join('\n'));
  assert.match(
    problems[0]!,
    /a\/1\.conf:1: apiVersion: "v1": must be "kubelet\.config\.k8s\.io\/v1b/,
  );
  assert.match(problems[1]!, /a\/1\.conf:2: kind: "ConfigMap": must be "KubeletConfiguration"/);
  assert.match(problems[2]!, /a\/2\.conf: is empty/);
});

test('a folder of drop-ins is there, and not too full', async () => {
  using folder = new Folder();
  const missing = await folder.read('limpet', '--config-dir=DIR/nix');
  assert.match(missing.problems[0]!, /nix: can't be read: ENOENT/);
  for (let count = 0; count <= LIMITS.configFiles; count += 1)
    folder.write(`b/${count}.conf`, HEAD);
  const full = await folder.read('limpet', '--config-dir=DIR/b');
  assert.match(full.problems[0]!, /b: has 101 files, more than 100; join some of them/);
  rmSync(join(folder.path, 'b/0.conf'));
  assert.deepEqual((await folder.read('limpet', '--config-dir=DIR/b')).problems, []);
});

test('a name that no node can have is a problem', async () => {
  using folder = new Folder();
  const { problems } = await folder.read('limpet', '--hostname-override=a_b');
  assert.match(problems[0]!, /^"a_b" can't be the name of a node: .*--hostname-override$/);
});
