/**
 * Labels that a kubelet may give its own node. Words are the kubelet's.
 * Source: k8s.io/kubelet pkg/apis/well_known_labels.go and k8s.io/kubernetes
 * cmd/kubelet/app/options/options.go, v1.36.3.
 */
import { labelValueProblem, qualifiedNameProblem } from './names.ts';

const PREFIXES = ['kubelet.kubernetes.io', 'node.kubernetes.io'];
const KEYS = [
  'beta.kubernetes.io/arch',
  'beta.kubernetes.io/instance-type',
  'beta.kubernetes.io/os',
  'failure-domain.beta.kubernetes.io/region',
  'failure-domain.beta.kubernetes.io/zone',
  'kubernetes.io/arch',
  'kubernetes.io/hostname',
  'kubernetes.io/os',
  'node.kubernetes.io/instance-type',
  'topology.kubernetes.io/region',
  'topology.kubernetes.io/zone',
];

/** What is wrong with the labels, or undefined. */
export function nodeLabelsProblem(labels: Readonly<Record<string, string>>): string | undefined {
  const foreign = Object.keys(labels).filter((key) => !mayLabel(key));
  if (foreign.length > 0) {
    return (
      `unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: ` +
      `[${foreign.toSorted().join(' ')}]; they must begin with an allowed prefix ` +
      `(${PREFIXES.join(', ')}) or be one of ${KEYS.join(', ')}`
    );
  }
  for (const [key, value] of Object.entries(labels)) {
    const problem = qualifiedNameProblem(key) ?? labelValueProblem(value);
    if (problem !== undefined) return `invalid node labels: '${key}=${value}' - ${problem}`;
  }
  return undefined;
}

function mayLabel(key: string): boolean {
  const slash = key.indexOf('/');
  const namespace = slash < 0 ? '' : key.slice(0, slash);
  const within = (domain: string) => namespace === domain || namespace.endsWith(`.${domain}`);
  const ofKubernetes = within('kubernetes.io') || within('k8s.io');
  return !ofKubernetes || KEYS.includes(key) || PREFIXES.some(within);
}
