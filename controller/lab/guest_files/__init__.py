"""Files that go into guest images as they are. Data only: nothing here runs on the controller's machine."""
