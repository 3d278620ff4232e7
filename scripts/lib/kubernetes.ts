// The programs of Kubernetes and etcd that tests need: found where they are, or built by Go from the
// module test/control-plane, one at a time, and kept.
import { readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { cached, exists, filesOf, keyOf, repository } from './cache.ts';
import type { Arch } from './pause-program.ts';
import { require } from './prerequisites.ts';
import { run } from './process.ts';

/** Small ones first, so that what is wrong with the ways of building shows soon. */
export const programs = [
  'etcd',
  'kubectl',
  'kubeadm',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
] as const;

export type Program = (typeof programs)[number];

/** What a node runs, and so may be wanted for another architecture. */
export const programsOfNode = ['kubeadm', 'kubelet', 'kube-proxy'] as const;

const module = join(repository, 'test', 'control-plane');

/** As the releases are built, save that all are static: the release's kubelet is not. */
const recipe = { tags: 'selinux,notest,grpcnotrace', ldflags: '-s -w', cgo: '0' };

const oldestGo = 26;

type Versions = { readonly kubernetes: string; readonly etcd: string };

/** The version of Kubernetes that the module names, e.g. `v1.36.3`. */
export async function kubernetesVersion(): Promise<string> {
  return (await versions()).kubernetes;
}

/**
 * The paths of programs for this host's architecture or another. They come from the directory that
 * KUBEBUILDER_ASSETS names, or from the PATH, if they are of exactly the right version; else from
 * the cache, and are built first when it has none of these inputs (kube-apiserver takes minutes).
 */
export async function kubernetes<P extends Program>(
  wanted: readonly P[],
  say: (line: string) => void,
  arch: Arch = ownArch(),
): Promise<Record<P, string>> {
  const inputs = await filesOf([join(module, 'go.mod'), join(module, 'go.sum')]);
  const wish = await versions();
  const paths: [P, string][] = [];
  for (const program of wanted) {
    const there = arch === ownArch() ? await ready(program, wish) : undefined;
    const name = `${program}-${arch}-${keyOf([inputs, recipe, packageOf(program)])}`;
    const make = async (part: string) => await build(program, arch, join(part, program), say);
    const path = there ?? join(await cached('kubernetes', name, make, say), program);
    paths.push([program, path]);
  }
  return Object.fromEntries(paths) as Record<P, string>;
}

function ownArch(): Arch {
  return process.arch === 'x64' ? 'amd64' : 'arm64';
}

function packageOf(program: Program): string {
  return program === 'etcd' ? 'go.etcd.io/etcd/server/v3' : `k8s.io/kubernetes/cmd/${program}`;
}

async function versions(): Promise<Versions> {
  const text = await readFile(join(module, 'go.mod'), 'utf8');
  const of = (name: string): string => {
    const found = new RegExp(`^\t${name} (v[\\d.]+)`, 'm').exec(text)?.[1];
    if (found === undefined) throw new Error(`${module}/go.mod requires no ${name}`);
    return found;
  };
  return { kubernetes: of('k8s.io/kubernetes'), etcd: of('go.etcd.io/etcd/server/v3') };
}

/** A program that somebody else has put there, of exactly the right version. */
async function ready(program: Program, wish: Versions): Promise<string | undefined> {
  const places = [
    process.env['KUBEBUILDER_ASSETS'],
    ...(process.env['PATH'] ?? '').split(delimiter),
  ];
  const question: Partial<Record<Program, readonly string[]>> = {
    kubectl: ['version', '--client'],
    kubeadm: ['version', '--output', 'short'],
  };
  const answer = program === 'etcd' ? `etcd Version: ${wish.etcd.slice(1)}` : wish.kubernetes;
  for (const place of places) {
    if (place === undefined || place === '') continue;
    const path = join(place, program);
    if (!(await exists(path))) continue;
    const asked = await run(path, question[program] ?? ['--version'], {
      check: false,
      timeoutMs: 30_000,
    }).catch(() => undefined);
    const lines = asked?.stdout.split('\n') ?? [];
    if (lines.some((line) => line === answer || line.endsWith(` ${answer}`))) return path;
  }
  return undefined;
}

async function build(
  program: Program,
  arch: Arch,
  path: string,
  say: (line: string) => void,
): Promise<void> {
  await requireGo(say);
  const began = performance.now();
  let packages = 0;
  const timer = setInterval(() => {
    const seconds = Math.round((performance.now() - began) / 1000);
    say(`building ${program}: ${packages} packages compiled in ${seconds} s`);
  }, 30_000);
  say(`building ${program} for ${arch}; it is kept`);
  const env = { CGO_ENABLED: recipe.cgo, GOOS: 'linux', GOARCH: arch, GOFLAGS: '-buildvcs=false' };
  const flags = ['-v', '-trimpath', `-tags=${recipe.tags}`, `-ldflags=${await linkerFlags()}`];
  try {
    // Go keeps each package that it has compiled, so a build that was broken off goes on.
    await run('go', ['build', ...flags, '-o', path, packageOf(program)], {
      cwd: module,
      env,
      onLine: () => packages++,
    });
  } finally {
    clearInterval(timer);
  }
  say(`built ${program} in ${Math.round((performance.now() - began) / 1000)} s`);
}

/** Without the stamp `--version` prints what nobody can parse, kubeadm included. */
async function linkerFlags(): Promise<string> {
  const version = await kubernetesVersion();
  const [major = '', minor = ''] = version.slice(1).split('.');
  const question = ['list', '-m', '-f', '{{.Time.UTC.Format "2006-01-02T15:04:05Z"}}'];
  const { stdout } = await run('go', [...question, 'k8s.io/kubernetes'], { cwd: module });
  const stamp = {
    gitVersion: version,
    gitMajor: major,
    gitMinor: minor,
    // A module does not tell what commit it was made of.
    gitCommit: 'unknown',
    gitTreeState: 'clean',
    buildDate: stdout.trim(),
  };
  const set = Object.entries(stamp).flatMap(([name, value]) =>
    ['k8s.io/component-base', 'k8s.io/client-go/pkg'].map((place) => {
      return `-X ${place}/version.${name}=${value}`;
    }),
  );
  return [recipe.ldflags, ...set].join(' ');
}

async function requireGo(say: (line: string) => void): Promise<void> {
  await require(['go'], say);
  // Asked inside the module: a Go that may fetch a newer one of itself tells of that one.
  const { stdout } = await run('go', ['version'], { cwd: module, check: false });
  const minor = /go1\.(\d+)/.exec(stdout)?.[1];
  if (minor !== undefined && Number(minor) >= oldestGo) return;
  const has = stdout.trim() === '' ? 'one that is too old' : stdout.trim();
  throw new Error(
    `building Kubernetes needs Go 1.${oldestGo} or newer, and here is ${has}; ` +
      'install a newer one, or give Go 1.21 or newer GOTOOLCHAIN=auto',
  );
}
