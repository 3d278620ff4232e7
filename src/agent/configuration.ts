/**
 * Reads the agent's configuration: flags, the KubeletConfiguration and its drop-in files, and
 * limpet's own file. What is wrong is found all at once, each with its file and line.
 */
import { readdir, realpath } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { errnoOf, faultOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import {
  configObject,
  fillDefaults,
  mergeFile,
  type Findings,
  type Settings,
} from '../kube/config-settings.ts';
import { KUBELET_CONFIG, kubeletConfiguration } from '../kube/kubelet-settings.ts';
import type { KubeletOutcome, ReadFile } from '../kube/kubelet-settings.ts';
import { LIMPET_CONFIG, LIMPET_FIELDS, type LimpetConfig } from '../kube/limpet-config.ts';
import { formatProblem, ManifestSyntaxError } from '../kube/manifest-node.ts';
import { dnsSubdomainProblem } from '../kube/names.ts';
import type { ParsedFlags } from '../kube/parse-flags.ts';
import { decodeManifest, needsYaml, syntaxProblem } from '../kube/parse.ts';
import { absolutePath, readConfig, type ConfigKind } from '../kube/read-config.ts';
import { cpuCount } from '../linux/proc.ts';
import { readContent } from '../source/manifest-file.ts';
import { relayProblems } from './relay-settings.ts';
import { agentOptions, type AgentOptions } from './options.ts';

/** Where limpet's own file is looked for when no flag names one. */
export const LIMPET_CONFIG_FILE = '/etc/limpet/config.yaml';

/** The name that it was started by. */
export type CalledAs = 'limpet' | 'kubelet';

export type Configuration = KubeletOutcome &
  Findings & {
    readonly limpet: LimpetConfig;
    readonly limpetSettings: Settings;
    /** Undefined when there are problems. */
    readonly options: AgentOptions | undefined;
  };

/**
 * Reads the files that the flags name. `calledAs`: a kubelet has the kubelet's own defaults, also
 * where it is given no file. `directory`: where relative paths of flags begin.
 */
export async function readConfiguration(
  parsed: ParsedFlags,
  { calledAs, directory }: { readonly calledAs: CalledAs; readonly directory: string },
): Promise<Configuration> {
  const findings: Findings = { problems: [], warnings: [] };
  const pathOf = (name: string) => (parsed.flags.get(name)?.value as string | undefined) ?? '';
  const configFile = pathOf('config');
  const configDir = pathOf('configDir');
  const file = configFile === '' ? undefined : await readConfigFile(configFile, KUBELET_CONFIG);
  const dropIns = configDir === '' ? undefined : await readDropIns(configDir, directory, findings);
  const without = calledAs === 'kubelet' ? 'withoutFile' : dropIns ? 'withFile' : 'alone';
  const outcome = kubeletConfiguration(
    {
      file,
      dropIns,
      kubelet: parsed.kubelet,
      flags: parsed.flags,
      defaults: file === undefined ? without : 'withFile',
    },
    findings,
  );
  const limpetSettings = await readLimpet(parsed, calledAs, directory, findings);
  const limpet = configObject(LIMPET_FIELDS, limpetSettings) as LimpetConfig;
  findings.problems.push(...relayProblems(limpet.relay));
  if (parsed.idle.length > 0) {
    findings.warnings.push(`${parsed.idle.join(', ')}: without effect, limpet has no cAdvisor`);
  }
  const nodeName = nodeNameOf(outcome.flags.hostnameOverride, findings);
  const options =
    findings.problems.length > 0
      ? undefined
      : agentOptions({
          kubelet: outcome.config,
          flags: outcome.flags,
          gates: outcome.gates,
          limpet,
          nodeName,
          cores: cpuCount(),
          configWarnings: findings.warnings,
        });
  return { ...outcome, ...findings, limpet, limpetSettings, options };
}

async function readLimpet(
  parsed: ParsedFlags,
  calledAs: CalledAs,
  directory: string,
  findings: Findings,
): Promise<Settings> {
  const settings: Settings = new Map();
  const named = parsed.own['limpet-config'];
  const path = named === undefined ? LIMPET_CONFIG_FILE : absolutePath(directory, named);
  const { reading } = await readConfigFile(path, LIMPET_CONFIG);
  const isMissing = reading.problems[0]?.message === MISSING && named === undefined;
  if (!isMissing) {
    findings.problems.push(...reading.problems.map((problem) => formatProblem(path, problem)));
    mergeFile(settings, LIMPET_FIELDS, reading.given, path);
  }
  fillDefaults(settings, LIMPET_FIELDS, true);
  const root = settings.get('rootDirectory');
  if (calledAs === 'kubelet' && root?.source.from === 'default') {
    settings.set('rootDirectory', { ...root, value: '/var/lib/kubelet' });
  }
  for (const [name, setting] of parsed.limpet) settings.set(name, setting);
  return settings;
}

const MISSING = 'is not there';

/** Reads one file. Never rejects: what is wrong is among the problems of the reading. */
async function readConfigFile(
  path: string,
  kind: ConfigKind,
  directory = dirname(path),
): Promise<ReadFile> {
  const failed = (message: string): ReadFile => ({
    path,
    reading: { given: new Map(), problems: [{ path: '', message }], warnings: [] },
  });
  try {
    const content = await readContent(path);
    if (content === undefined) return failed('changes while it is read; try again');
    if (typeof content === 'string') return failed(content);
    const text = decodeManifest(content.bytes);
    const yaml = needsYaml(text) ? await import('yaml') : undefined;
    return { path, reading: readConfig(text, kind, { yaml, directory }) };
  } catch (error) {
    if (error instanceof ManifestSyntaxError) {
      return {
        path,
        reading: { given: new Map(), problems: [syntaxProblem(error)], warnings: [] },
      };
    }
    return failed(
      errnoOf(error) === 'ENOENT' ? MISSING : `can't be read: ${faultOf(error).message}`,
    );
  }
}

/** The files `*.conf` of a folder and of the folders in it, in lexical order. */
async function readDropIns(
  folder: string,
  directory: string,
  findings: Findings,
): Promise<readonly ReadFile[]> {
  const paths: string[] = [];
  try {
    await findDropIns(await realpath(folder), folder, paths);
  } catch (error) {
    findings.problems.push(`${folder}: can't be read: ${faultOf(error).message}`);
  }
  if (paths.length > LIMITS.configFiles) {
    findings.problems.push(
      `${folder}: has ${paths.length} files, more than ${LIMITS.configFiles}; join some of them`,
    );
    return [];
  }
  const files: ReadFile[] = [];
  // Relative paths in a drop-in begin where the kubelet was started, not where the file is.
  for (const path of paths) files.push(await readConfigFile(path, KUBELET_CONFIG, directory));
  return files;
}

async function findDropIns(real: string, shown: string, paths: string[]): Promise<void> {
  const entries = await readdir(real, { withFileTypes: true });
  const byName = entries.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of byName) {
    const path = join(shown, entry.name);
    if (paths.length > LIMITS.configFiles) return;
    if (entry.isDirectory()) await findDropIns(join(real, entry.name), path, paths);
    else if (extname(`x${entry.name}`) === '.conf') paths.push(path);
  }
}

/** Node names are DNS subdomains (RFC 1123), as the API server wants them. */
function nodeNameOf(override: string, findings: Findings): string {
  const name = (override === '' ? hostname() : override).trim().toLowerCase();
  const problem = dnsSubdomainProblem(name);
  if (problem !== undefined) {
    const remedy = 'give another one with --hostname-override';
    findings.problems.push(`"${name}" can't be the name of a node: ${problem}; ${remedy}`);
  }
  return name;
}
