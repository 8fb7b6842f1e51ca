"""Results as sentences, tables, figures and one page."""
