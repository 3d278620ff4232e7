/**
 * The shapes that Kubernetes asks of names, each as a function that says what is wrong with a text,
 * or undefined. Words and rules are those of k8s.io/apimachinery `util/validation`.
 */
type Check = (text: string) => string | undefined;

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const SEARCH = /^_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;

function tooLong(text: string, most: number): string | undefined {
  return text.length > most ? `must be no more than ${most} characters` : undefined;
}

/** A container, a volume, a namespace, a host name: RFC 1123 label, lower case, 63 characters. */
export const dnsLabelProblem: Check = (text) =>
  tooLong(text, 63) ??
  (LABEL.test(text)
    ? undefined
    : "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', " +
      "and must start and end with an alphanumeric character (e.g. 'my-name' or '123-abc')");

/** A pod, a node: RFC 1123 subdomain, lower case, 253 characters. */
export const dnsSubdomainProblem: Check = (text) =>
  tooLong(text, 253) ??
  (SUBDOMAIN.test(text)
    ? undefined
    : 'a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, ' +
      "'-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')");

/** A domain of a DNS search list: a subdomain that may have underscores and end with a dot. */
export const searchDomainProblem: Check = (text) => {
  const name = text === '.' ? 'root' : text.replace(/\.$/, '');
  return (
    tooLong(name, 253) ??
    (SEARCH.test(name)
      ? undefined
      : 'a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, ' +
        "'_', '-' or '.', and must start and end with an alphanumeric character")
  );
};

/** The key of a label or an annotation: `name` or `domain/name`. */
export const qualifiedNameProblem: Check = (text) => {
  const slash = text.lastIndexOf('/');
  const name = text.slice(slash + 1);
  const prefix = slash < 0 ? undefined : text.slice(0, slash);
  if (prefix === '') return 'prefix part must be non-empty';
  if (prefix?.includes('/') === true) {
    return "a qualified name must consist of a name and an optional DNS subdomain prefix and '/'";
  }
  const wrong = prefix === undefined ? undefined : dnsSubdomainProblem(prefix);
  if (wrong !== undefined) return `prefix part ${wrong}`;
  if (name === '') return 'name part must be non-empty';
  if (name.length > 63) return 'name part must be no more than 63 characters';
  if (QUALIFIED.test(name)) return undefined;
  return (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end " +
    "with an alphanumeric character (e.g. 'MyName' or 'my.name')"
  );
};

export const labelValueProblem: Check = (text) =>
  tooLong(text, 63) ??
  (text === '' || QUALIFIED.test(text)
    ? undefined
    : "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or " +
      "'.', and must start and end with an alphanumeric character (e.g. 'my_value' or '12345')");

/** The name of an environment variable (the relaxed rule of v1.34 and later). */
export const envNameProblem: Check = (text) =>
  /^[\x20-\x3c\x3e-\x7e]+$/.test(text)
    ? undefined
    : "a valid environment variable name must consist only of printable ASCII characters other than '='";

/** A key of a config map or a secret, which may become the name of a file. */
export const configMapKeyProblem: Check = (text) => {
  if (text === '.' || text === '..') return `must not be '${text}'`;
  if (text.startsWith('..')) return "must not start with '..'";
  return (
    tooLong(text, 253) ??
    (/^[-._a-zA-Z0-9]+$/.test(text)
      ? undefined
      : "a valid config key must consist of alphanumeric characters, '-', '_' or '.' " +
        "(e.g. 'key.name' or 'KEY_NAME')")
  );
};

/** The name of a port: at least one letter, at most 15 characters. */
export const portNameProblem: Check = (text) => {
  if (text.length > 15) return 'must be no more than 15 characters';
  if (!/^[-a-z0-9]+$/.test(text)) {
    return 'must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)';
  }
  if (!/[a-z]/.test(text)) return 'must contain at least one letter (a-z)';
  if (text.includes('--')) return 'must not contain consecutive hyphens';
  if (text.startsWith('-') || text.endsWith('-')) return 'must not begin or end with a hyphen';
  return undefined;
};

export const httpHeaderNameProblem: Check = (text) =>
  /^[-A-Za-z0-9]+$/.test(text)
    ? undefined
    : "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name')";

/** An IPv4 or IPv6 address, without a zone. */
export const ipProblem: Check = (text) =>
  isIPv4(text) || isIPv6(text)
    ? undefined
    : 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';

function isIPv4(text: string): boolean {
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(text)
    ? text.split('.').every((part) => Number(part) <= 255 && !/^0\d/.test(part))
    : false;
}

function isIPv6(text: string): boolean {
  if (text.length > 45 || !text.includes(':')) return false;
  const tail = text.slice(text.lastIndexOf(':') + 1);
  const mapped = tail.includes('.');
  if (mapped && !isIPv4(tail)) return false;
  const plain = mapped ? `${text.slice(0, text.lastIndexOf(':') + 1)}0:0` : text;
  const halves = plain.split('::');
  if (halves.length > 2) return false;
  const groups = halves.flatMap((half) => (half === '' ? [] : half.split(':')));
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return false;
  return halves.length === 2 ? groups.length < 8 : groups.length === 8;
}
