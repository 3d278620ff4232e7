// Builds the executables: one file for each architecture, with Node and SQLite inside.
//
// bundles (esbuild) -> Node of the target, freed of symbols and of libatomic -> node --build-sea
//
// The same inputs give the same bytes, wherever and on whichever architecture they are built:
// paths inside the blob are relative, nothing carries a time, and no foreign tool touches the file.
import { build as bundle, type Plugin } from 'esbuild';
import { createHash } from 'node:crypto';
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { inAscii } from './lib/ascii.ts';
import { cached, exists, filesOf, keyOf, lock, repository } from './lib/cache.ts';
import { neededLibraries, withoutHugePages, withoutLibatomic, withoutSymbols } from './lib/elf.ts';
import { run } from './lib/process.ts';
import { readTar } from './lib/tar.ts';

const ARCHITECTURES = ['x64', 'arm64'] as const;
type Arch = (typeof ARCHITECTURES)[number];

const HELP = `Builds limpet's executables into dist/.

  scripts/build [--arch x64|arm64|all] [--check]

  --arch   which executable; all unless told
  --check  builds again even when nothing has changed, and fails if the bytes differ

Nothing is built when the inputs are the same as those of the file that is there.
`;

/**
 * What Node is started with inside the executable; src/start.ts sets more. A small young generation
 * keeps the memory flat when much is allocated. Warnings about experimental features tell a user of
 * limpet nothing.
 */
const NODE_FLAGS = ['--max-semi-space-size=1', '--disable-warning=ExperimentalWarning'];

type Built = {
  readonly inputs: string;
  readonly sha256: string;
  readonly bytes: number;
  /** How long it takes to start, for people; absent where it can't be run. */
  readonly start?: string;
};

type Inputs = {
  readonly nodeVersion: string;
  readonly commit: string;
  /** When it was made, in seconds since 1970; 0 outside of git. */
  readonly commitSeconds: number;
  readonly sqlite: string;
  readonly files: readonly [string, string][];
};

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string', default: 'all' },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const wanted = ARCHITECTURES.filter((arch) => values.arch === 'all' || values.arch === arch);
  if (wanted.length === 0) {
    process.stderr.write(`build: --arch is x64, arm64 or all, not "${values.arch}"\n`);
    return 2;
  }
  await using _held = await lock(`build-${keyOf(repository)}`, say);
  const inputs = await gatherInputs();
  for (const arch of wanted) {
    const built = await buildOne(arch, inputs, values.check);
    report(arch, built);
  }
  return 0;
}

async function buildOne(arch: Arch, inputs: Inputs, check: boolean): Promise<Built> {
  const path = binaryPath(arch);
  const key = keyOf({ arch, flags: NODE_FLAGS, inputs });
  const before = await readBuilt(path);
  const unchanged = before?.inputs === key && (await sizeOf(path)) === before.bytes;
  if (unchanged && !check) return before;

  const work = await mkdtemp(join(tmpdir(), 'limpet-build-'));
  try {
    const node = await timed(`Node ${inputs.nodeVersion} for ${arch}`, () => preparedNode(arch));
    await timed(`bundles for ${arch}`, () => writeBundles(work, inputs));
    await timed(`executable for ${arch}`, () => inject(work, node, arch));
    const image = await readFile(join(work, 'limpet'));
    if (neededLibraries(image).includes('libatomic.so.1')) {
      throw new Error('the executable still needs libatomic.so.1');
    }
    const sha256 = createHash('sha256').update(image).digest('hex');
    if (check && unchanged && before.sha256 !== sha256) {
      throw new Error(`not reproducible: ${path} was ${before.sha256} and is now ${sha256}`);
    }
    await mkdir(join(repository, 'dist'), { recursive: true });
    await copyFile(join(work, 'limpet'), `${path}.part`);
    await chmod(`${path}.part`, 0o755);
    await rename(`${path}.part`, path);
    const start = arch === process.arch ? { start: await startTime(path) } : {};
    const built: Built = { inputs: key, sha256, bytes: image.length, ...start };
    await writeFile(`${path}.json`, `${JSON.stringify(built, undefined, 2)}\n`);
    return built;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/**
 * What `KubeConfig` of the Kubernetes client refers to and limpet never calls: clients of its own
 * for HTTP, proxies and login flows, which are 1.2 MB, and the types of all objects as code. The
 * kubeconfig that it reads has been parsed before and is JSON.
 */
const UNUSED = /^(undici|openid-client|socks|socks-proxy-agent|hpagent|jsonpath-plus)$/;
const onlyKubeConfig: Plugin = {
  name: 'only-kube-config',
  setup(build) {
    const stub = (path: string) => ({ path, namespace: 'stub' });
    build.onResolve({ filter: UNUSED }, ({ path }) => stub(path));
    build.onResolve({ filter: /^(js-yaml|\.\/gen\/index\.js)$/ }, ({ path, importer }) =>
      importer.endsWith('/@kubernetes/client-node/dist/config.js') ? stub(path) : undefined,
    );
    build.onLoad({ filter: /.*/, namespace: 'stub' }, ({ path }) => ({
      contents: path === 'js-yaml' ? 'exports.load = JSON.parse;' : 'module.exports = {};',
    }));
  },
};

/**
 * What the client of the package mqtt refers to and needs no copy of: streams that Node has, timers
 * for browsers, and a log. Its own `main`, with WebSockets and proxies, is not imported at all.
 */
const MQTT_STUBS: Readonly<Record<string, string>> = {
  'readable-stream': "module.exports = require('node:stream');",
  // With DEBUG set it would write every packet, passwords too, to standard error.
  debug: 'module.exports = () => () => {};',
};
const onlyMqttClient: Plugin = {
  name: 'only-mqtt-client',
  setup(build) {
    build.onResolve({ filter: /^(readable-stream|worker-timers|debug)$/ }, ({ path }) => ({
      path,
      namespace: 'mqtt-stub',
    }));
    build.onLoad({ filter: /.*/, namespace: 'mqtt-stub' }, ({ path }) => ({
      contents: MQTT_STUBS[path] ?? '',
    }));
  },
};

/**
 * Two files of CommonJS: the program, as a function of what `start.ts` gives it, and `start.ts`, which
 * runs first. The database's addon is in neither: it is an asset of the executable.
 */
async function writeBundles(work: string, inputs: Inputs): Promise<void> {
  const main = await bundled('src/main.ts', {
    LIMPET_COMMIT: JSON.stringify(inputs.commit),
    LIMPET_COMMIT_SECONDS: JSON.stringify(inputs.commitSeconds),
    LIMPET_SQLITE: JSON.stringify(inputs.sqlite),
  });
  const program = `(function(require,module,exports,LIMPET_COMPILED_CODE){${main}\n})`;
  await writeFile(join(work, 'limpet.js'), program);
  const hash = createHash('sha256').update(program).digest('hex').slice(0, 16);
  const start = await bundled('src/start.ts', { LIMPET_PROGRAM: JSON.stringify(hash) });
  await writeFile(join(work, 'start.cjs'), start);
}

async function bundled(entry: string, define: Readonly<Record<string, string>>): Promise<string> {
  const { outputFiles } = await bundle({
    entryPoints: [join(repository, entry)],
    write: false,
    absWorkingDir: repository,
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node26',
    charset: 'ascii',
    minify: true,
    keepNames: false,
    treeShaking: true,
    legalComments: 'none',
    logLevel: 'warning',
    logOverride: { 'empty-import-meta': 'error' },
    plugins: [onlyKubeConfig, onlyMqttClient],
    define,
  });
  return inAscii(outputFiles[0]!.text);
}

async function inject(work: string, node: string, arch: Arch): Promise<void> {
  const addon = join(repository, `node_modules/better-sqlite3/prebuilds/linux-${arch}.node`);
  await copyFile(addon, join(work, 'better_sqlite3.node'));
  await copyFile(node, join(work, 'node'));
  const config = {
    main: 'start.cjs',
    output: 'limpet',
    executable: 'node',
    disableExperimentalSEAWarning: true,
    useSnapshot: false,
    // A code cache only fits the Node that wrote it, which is not the target's when we cross-build.
    useCodeCache: false,
    execArgv: NODE_FLAGS,
    // NODE_OPTIONS of whoever starts limpet has no say.
    execArgvExtension: 'none',
    assets: {
      'better_sqlite3.node': 'better_sqlite3.node',
      'limpet.js': 'limpet.js',
    },
  };
  await writeFile(join(work, 'sea.json'), JSON.stringify(config));
  await run(process.execPath, ['--build-sea', 'sea.json'], { cwd: work, timeoutMs: 300_000 });
}

/** The path of the target's Node as elf.ts changes it, from the cache. */
async function preparedNode(arch: Arch): Promise<string> {
  const integrity = await integrityOf(arch);
  const recipe = await filesOf([join(repository, 'scripts/lib/elf.ts')]);
  const key = `${arch}-${keyOf({ integrity, recipe })}`;
  const directory = await cached(
    'node',
    key,
    async (into) => {
      const image = await pristineNode(arch, integrity);
      const changed = withoutHugePages(withoutLibatomic(withoutSymbols(image)));
      await writeFile(join(into, 'node'), changed, { mode: 0o755 });
    },
    say,
  );
  return join(directory, 'node');
}

/** Node as its makers built it: from node_modules, or for another architecture from npm. */
async function pristineNode(arch: Arch, integrity: string): Promise<Buffer> {
  const installed = join(repository, `node_modules/node-linux-${arch}/bin/node`);
  if (await exists(installed)) return await readFile(installed);
  const name = `node-linux-${arch}@${process.versions.node}`;
  const work = await mkdtemp(join(tmpdir(), 'limpet-node-'));
  try {
    say(`fetching ${name} (npm does not install the Node of another architecture)`);
    await run('npm', ['pack', name, '--silent', '--pack-destination', work], {
      cwd: repository,
      timeoutMs: 600_000,
    });
    const archive = await readFile(join(work, `node-linux-${arch}-${process.versions.node}.tgz`));
    const found = `sha512-${createHash('sha512').update(archive).digest('base64')}`;
    if (found !== integrity) {
      throw new Error(`${name} is ${found}, but package-lock.json says ${integrity}: not used`);
    }
    const node = readTar(gunzipSync(archive)).get('package/bin/node');
    if (node === undefined) throw new Error(`${name} has no package/bin/node`);
    return node;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The checksum that package-lock.json holds for the target's Node, which must be our version. */
async function integrityOf(arch: Arch): Promise<string> {
  const text = await readFile(join(repository, 'package-lock.json'), 'utf8');
  const { packages } = JSON.parse(text) as {
    packages: Record<string, { version?: string; integrity?: string } | undefined>;
  };
  const entry = packages[`node_modules/node-linux-${arch}`];
  if (entry?.integrity === undefined || entry.version === undefined) {
    throw new Error(`package-lock.json has no node-linux-${arch}: run npm install and commit it`);
  }
  if (entry.version !== process.versions.node) {
    throw new Error(
      `this is Node ${process.versions.node}, but package-lock.json pins node-linux-${arch} ` +
        `${entry.version}: start it as scripts/build`,
    );
  }
  return entry.integrity;
}

async function gatherInputs(): Promise<Inputs> {
  const below = (path: string): string => join(repository, path);
  const paths = [
    'src',
    'package.json',
    'package-lock.json',
    'scripts/build.ts',
    'scripts/lib/ascii.ts',
    'scripts/lib/elf.ts',
  ];
  const { default: Database } = await import('better-sqlite3');
  using memory = openMemory(Database);
  return {
    nodeVersion: process.versions.node,
    commit: await commitOf(paths),
    commitSeconds: Number((await git('log', '-1', '--format=%ct', '--', ...paths)) ?? 0),
    sqlite: memory.version,
    files: [
      ...(await filesOf(paths.map(below))),
      ...(await filesOf([below('node_modules/better-sqlite3/lib')])),
      ...(await filesOf([below('node_modules/better-sqlite3/prebuilds')])),
    ],
  };
}

function openMemory(Database: typeof import('better-sqlite3')): Disposable & { version: string } {
  const database = new Database(':memory:');
  const version = database.prepare('select sqlite_version()').pluck().get() as string;
  return { version, [Symbol.dispose]: () => database.close() };
}

/**
 * The last commit that changed what goes into the executable, with `-dirty` when that differs from it.
 */
async function commitOf(paths: readonly string[]): Promise<string> {
  const commit = await git('log', '-1', '--abbrev=12', '--format=%h', '--', ...paths);
  if (commit === undefined) return 'unknown';
  const changes = await git('status', '--porcelain', '--', ...paths);
  return changes === '' ? commit : `${commit}-dirty`;
}

/** What git says, or undefined where there is no git or no repository. */
async function git(...args: string[]): Promise<string | undefined> {
  const done = await run('git', args, { cwd: repository, check: false }).catch(() => undefined);
  return done?.code === 0 ? done.stdout.trim() : undefined;
}

function report(arch: Arch, built: Built): void {
  const size = `${(built.bytes / 1e6).toFixed(1)} MB`;
  const start =
    built.start === undefined ? ', not run: another architecture' : `, starts in ${built.start}`;
  process.stdout.write(`dist/limpet-linux-${arch}  ${size}${start}\n  sha256 ${built.sha256}\n`);
}

/** How long `limpet version` takes from start to end, of ten runs. */
async function startTime(path: string): Promise<string> {
  const tookMs: number[] = [];
  for (let round = 0; round < 10; round++) {
    const begin = performance.now();
    await run(path, ['version'], { timeoutMs: 30_000 });
    tookMs.push(performance.now() - begin);
  }
  tookMs.sort((a, b) => a - b);
  return `${Math.round(tookMs[0] ?? 0)} ms (median ${Math.round(tookMs[5] ?? 0)} ms)`;
}

async function readBuilt(path: string): Promise<Built | undefined> {
  const text = await readFile(`${path}.json`, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Built);
}

async function sizeOf(path: string): Promise<number | undefined> {
  return await stat(path).then(
    (found) => found.size,
    () => undefined,
  );
}

function binaryPath(arch: Arch): string {
  return join(repository, 'dist', `limpet-linux-${arch}`);
}

function say(line: string): void {
  process.stderr.write(`build: ${line}\n`);
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now();
  const result = await work();
  say(`${what}: ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  return result;
}

try {
  process.exitCode = await main();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
