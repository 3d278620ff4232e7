// A control plane for tests: etcd and the real Kubernetes, run natively beside virtual nodes, set up
// by kubeadm as far as it goes without a machine of its own. See test/control-plane/README.md.
import { createHash, X509Certificate } from 'node:crypto';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheDirectory, exists } from './cache.ts';
import {
  auditPolicy,
  clusterInfo,
  commandLines,
  egressSelection,
  hostOfNodes,
  kubeadmConfig,
  type Component,
  type Layout,
} from './control-plane-config.ts';
import { kubernetes, kubernetesVersion } from './kubernetes.ts';
import { freePorts } from './ports.ts';
import { run, type Finished, type RunOptions } from './process.ts';

export type { Component } from './control-plane-config.ts';

export type Say = (line: string) => void;

/** A process of a control plane; `rssBytes` is 0 when it does not run. */
export type Part = {
  readonly component: Component;
  readonly pid: number;
  readonly rssBytes: number;
};

export type ControlPlane = {
  readonly name: string;
  /** Everything it has: keys, etcd's data, logs/, audit.log. */
  readonly directory: string;
  /** Where the API server listens: on 127.0.0.1 of the host, 10.0.2.2 as virtual nodes see it. */
  readonly port: number;
  /** Of system:masters. */
  readonly kubeconfig: string;
  /** For a program that runs kubectl itself. */
  readonly kubectlProgram: string;
  readonly kubectlEnv: Readonly<Record<string, string>>;
  /** One JSON line for each request: who asked for what, and what was decided. */
  readonly auditLog: string;
  /** Runs kubectl as system:masters. Throws when it fails, unless `check` is false. */
  kubectl(args: readonly string[], options?: RunOptions): Promise<Finished>;
  /** The command that makes a machine a node, with a bootstrap token that is good for a day. */
  joinCommand(): Promise<string[]>;
  parts(): Promise<Part[]>;
  /** Starts what was killed; the API server answers when this returns. */
  start(component: Component): Promise<void>;
  /** SIGKILL. What etcd has written is there again after a start. */
  kill(component: Component): Promise<void>;
  /** Ends all and deletes all that is its own. */
  down(): Promise<void>;
};

type State = Layout & {
  readonly name: string;
  readonly kubectl: string;
  readonly kubeadm: string;
  readonly pids: Readonly<Partial<Record<Component, number>>>;
};

const components: readonly Component[] = [
  'etcd',
  'egress',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
];

const readyTimeoutMs = 180_000;

/**
 * Starts a new control plane and returns when it can be used: a node can join it and a pod can be
 * created. Programs that are missing are built first. Throws when the name is taken.
 */
export async function up(
  name: string,
  say: Say,
  options: Pick<Layout, 'signingDuration'> = {},
): Promise<ControlPlane> {
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)) {
    throw new Error(`"${name}" is no name: use lower-case letters, digits, hyphens`);
  }
  const programs = await kubernetes(
    ['etcd', 'kubectl', 'kubeadm', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'],
    say,
  );
  const directory = directoryOf(name);
  await mkdir(join(cacheDirectory(), 'control-planes'), { recursive: true });
  await mkdir(directory, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
    throw new Error(`there is a control plane "${name}" already; end it first`);
  });
  const [port = 0, etcdPort = 0, etcdPeerPort = 0] = await freePorts(3);
  // A socket's path may not be longer than 107 bytes.
  const sockets = directory.length < 80 ? directory : await mkdtemp(join(tmpdir(), 'limpet-'));
  const ports = { port, etcdPort, etcdPeerPort };
  const state = { ...programs, name, directory, sockets, ...ports, ...options, pids: {} };
  try {
    await save(state);
    await bringUp(await attach(name), state, say);
  } catch (error) {
    await down(name);
    throw error;
  }
  return await attach(name);
}

async function bringUp(plane: ControlPlane, state: State, say: Say): Promise<void> {
  const { directory, port } = state;
  const at = (file: string): string => join(directory, file);
  const version = await kubernetesVersion();
  const kubeadm = async (phase: readonly string[], config: string): Promise<void> => {
    await run(state.kubeadm, ['init', 'phase', ...phase, '--config', at(config)]);
  };
  await mkdir(at('logs'));
  await writeFile(at('audit-policy.yaml'), auditPolicy);
  await writeFile(at('egress.yaml'), egressSelection(state));
  // The keys are here; what nodes are told is where a node has them.
  await writeFile(at('kubeadm-here.yaml'), kubeadmConfig(port, version, at('pki')));
  await writeFile(at('kubeadm.yaml'), kubeadmConfig(port, version, '/etc/kubernetes/pki'));
  await kubeadm(['certs', 'all'], 'kubeadm-here.yaml');
  await kubeadm(['kubeconfig', 'all', '--kubeconfig-dir', directory], 'kubeadm-here.yaml');
  for (const name of await readdir(directory)) {
    if (!name.endsWith('.conf')) continue;
    const text = await readFile(at(name), 'utf8');
    await writeFile(at(name), text.replaceAll(`//${hostOfNodes}:`, '//127.0.0.1:'));
  }
  say('keys and kubeconfigs are made');
  for (const component of components) await plane.start(component);
  say('the API server is ready');
  const admin = ['--kubeconfig', plane.kubeconfig];
  await kubeadm(['upload-config', 'all', ...admin], 'kubeadm.yaml');
  await kubeadm(['bootstrap-token', '--skip-token-print', ...admin], 'kubeadm.yaml');
  const ca = await readFile(at('pki/ca.crt'));
  const patch = JSON.stringify({ data: { kubeconfig: clusterInfo(port, ca) } });
  await plane.kubectl(['-n', 'kube-public', 'patch', 'configmap', 'cluster-info', '-p', patch]);
  // The first thing that a pod needs.
  await plane.kubectl(['wait', '--for=create', '--timeout=60s', 'serviceaccount/default']);
  say(`control plane "${state.name}" is up: https://127.0.0.1:${port}`);
}

/** The control plane of this name, which `up` started in this process or another. */
export async function attach(name: string): Promise<ControlPlane> {
  const state = await load(name);
  const { directory, port } = state;
  const kubeconfig = join(directory, 'super-admin.conf');
  const kubectlEnv = { KUBECONFIG: kubeconfig, KUBECACHEDIR: join(directory, 'cache') };
  const kubectl: ControlPlane['kubectl'] = async (args, options = {}) =>
    await run(state.kubectl, args, { ...options, env: { ...kubectlEnv, ...options.env } });
  return {
    name,
    directory,
    port,
    kubeconfig,
    kubectlProgram: state.kubectl,
    kubectlEnv,
    auditLog: join(directory, 'audit.log'),
    kubectl,
    joinCommand: async () => {
      const create = ['token', 'create', '--kubeconfig', kubeconfig];
      const token = (await run(state.kubeadm, create)).stdout.trim();
      // kubeadm would find no signature yet, and look again only after 5 s.
      const signature = `jsonpath={.data.jws-kubeconfig-${token.split('.')[0]}}`;
      const signed = ['wait', `--for=${signature}`, '--timeout=60s', 'configmap/cluster-info'];
      await kubectl(['-n', 'kube-public', ...signed]);
      const ca = await keyHash(join(directory, 'pki/ca.crt'));
      const proof = ['--token', token, '--discovery-token-ca-cert-hash', ca];
      return ['kubeadm', 'join', `${hostOfNodes}:${port}`, ...proof];
    },
    parts: async () => await parts(name),
    start: async (component) => await start(name, component),
    kill: async (component) => await kill(name, component),
    down: async () => await down(name),
  };
}

/** The names of all control planes, running or not. */
export async function list(): Promise<string[]> {
  const path = join(cacheDirectory(), 'control-planes');
  return (await readdir(path).catch(() => [])).sort();
}

async function start(name: string, component: Component): Promise<void> {
  const state = await load(name);
  if (await running(state, component)) return;
  const [program = '', ...args] = commandLines(state)[component];
  const log = await open(join(state.directory, 'logs', `${component}.log`), 'a');
  // A session of its own: it outlives this process and its terminal.
  const child = spawn(program, args, { detached: true, stdio: ['ignore', log.fd, log.fd] });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.on('error', reject);
  child.on('spawn', resolve);
  await promise.finally(async () => await log.close());
  child.unref();
  await save({ ...state, pids: { ...state.pids, [component]: child.pid ?? 0 } });
  if (component === 'kube-apiserver') await ready(await load(name));
}

async function ready(state: State): Promise<void> {
  const ca = await readFile(join(state.directory, 'pki', 'ca.crt'));
  const end = performance.now() + readyTimeoutMs;
  while (!(await answers(state.port, ca))) {
    if (!(await running(state, 'kube-apiserver')) || performance.now() > end) {
      const log = await readFile(join(state.directory, 'logs', 'kube-apiserver.log'), 'utf8');
      throw new Error(`kube-apiserver does not come up; its log ends with:\n${log.slice(-2000)}`);
    }
    await sleep(50);
  }
}

/** Whether the API server says that it is ready. */
async function answers(port: number, ca: Buffer): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const options = { host: '127.0.0.1', port, path: '/readyz', ca, agent: false, timeout: 10_000 };
  const asked = request(options, (response) => {
    response.resume();
    resolve(response.statusCode === 200);
  });
  asked.on('timeout', () => asked.destroy());
  asked.on('error', () => resolve(false));
  asked.end();
  return await promise;
}

async function kill(name: string, component: Component): Promise<void> {
  const state = await load(name);
  while (await running(state, component)) {
    process.kill(state.pids[component] ?? 0, 'SIGKILL');
    await sleep(20);
  }
}

async function parts(name: string): Promise<Part[]> {
  const state = await load(name);
  const started = components.filter((component) => state.pids[component] !== undefined);
  return await Promise.all(
    started.map(async (component) => {
      const pid = (await running(state, component)) ? (state.pids[component] ?? 0) : 0;
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
      const rssBytes = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) * 1024;
      return { component, pid, rssBytes };
    }),
  );
}

/** Whether a part's process is there, and is not another one with its old number. */
async function running(state: State, component: Component): Promise<boolean> {
  const pid = state.pids[component];
  if (pid === undefined) return false;
  const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return (
    line ===
    commandLines(state)
      [component].map((word) => `${word}\0`)
      .join('')
  );
}

async function down(name: string): Promise<void> {
  const state = await load(name).catch(() => undefined);
  if (state !== undefined) {
    for (const component of components) await kill(name, component);
    if (state.sockets !== state.directory) await rm(state.sockets, { recursive: true });
  }
  await rm(directoryOf(name), { recursive: true, force: true });
}

/** What `--discovery-token-ca-cert-hash` takes. */
async function keyHash(certificate: string): Promise<string> {
  const { publicKey } = new X509Certificate(await readFile(certificate));
  const hash = createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' }));
  return `sha256:${hash.digest('hex')}`;
}

function directoryOf(name: string): string {
  return join(cacheDirectory(), 'control-planes', name);
}

async function load(name: string): Promise<State> {
  const path = join(directoryOf(name), 'state.json');
  if (!(await exists(path))) throw new Error(`there is no control plane "${name}"`);
  return JSON.parse(await readFile(path, 'utf8')) as State;
}

async function save(state: State): Promise<void> {
  const path = join(state.directory, 'state.json');
  await writeFile(`${path}.new`, JSON.stringify(state, undefined, 2));
  await rename(`${path}.new`, path);
}
