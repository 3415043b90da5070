"""Where hosts serve others, and how they are taken out of service before they go down."""
